//! A certificate authority of a test's own, made with openssl.

use crate::{process::run, programs};
use anyhow::Result;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An authority whose files are in a directory.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    name: String,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        // Without the system's own, which adds extensions.
        fs::write(directory.join("openssl.cnf"), "[req]\ndistinguished_name = dn\n[dn]\n")?;
        let authority = Self { directory: directory.to_owned(), name: name.to_owned() };
        let mut openssl = authority.request(&authority.certificate(), &authority.key(), name)?;
        openssl.args([
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]);
        run(&mut openssl, b"")?.success()?;
        Ok(authority)
    }

    /// Its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    fn key(&self) -> PathBuf {
        self.directory.join(format!("{}.key", self.name))
    }

    /// Issues a certificate for a relay on `127.…` or `localhost`, with a new key.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn issue_to_relay(&self, certificate: &Path, key: &Path, names: &str) -> Result<()> {
        self.issue(
            certificate,
            key,
            "relay",
            &[&format!("subjectAltName={names}"), "extendedKeyUsage=serverAuth"],
        )
    }

    /// Issues a certificate for an etcd on `127.…` or `localhost`, with a new key. It shows it to itself, too.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn issue_to_etcd(&self, certificate: &Path, key: &Path, names: &str) -> Result<()> {
        let usage = "extendedKeyUsage=serverAuth,clientAuth";
        self.issue(certificate, key, "etcd", &[&format!("subjectAltName={names}"), usage])
    }

    /// Issues a certificate for an agent, with a new key.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn issue_to_agent(&self, certificate: &Path, key: &Path, name: &str, names: &str) -> Result<()> {
        self.issue(
            certificate,
            key,
            name,
            &[&format!("subjectAltName={names}"), "extendedKeyUsage=clientAuth"],
        )
    }

    fn issue(&self, certificate: &Path, key: &Path, name: &str, extensions: &[&str]) -> Result<()> {
        let mut openssl = self.request(certificate, key, name)?;
        openssl.arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.key());
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        run(&mut openssl, b"")?.success()?;
        Ok(())
    }

    fn request(&self, certificate: &Path, key: &Path, name: &str) -> Result<Command> {
        let mut openssl = Command::new(programs::installed("openssl")?);
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "30", "-subj", &format!("/CN={name}"), "-config"]);
        openssl.arg(self.directory.join("openssl.cnf")).arg("-out").arg(certificate).arg("-keyout").arg(key);
        Ok(openssl)
    }
}

/// A certificate's serial number, which tells it from all others, as a TLS client sees it on a port.
///
/// # Errors
/// When there is no TLS there.
pub fn serial_on(authority: &str) -> Result<String> {
    let mut client = Command::new(programs::installed("openssl")?);
    let seen = run(client.args(["s_client", "-connect", authority]), b"")?;
    let mut reader = Command::new(programs::installed("openssl")?);
    Ok(run(reader.args(["x509", "-noout", "-serial"]), &seen.stdout)?.success()?.text())
}

/// The same of a file.
///
/// # Errors
/// When there is no certificate in it.
pub fn serial_of(certificate: &Path) -> Result<String> {
    let mut reader = Command::new(programs::installed("openssl")?);
    Ok(run(reader.args(["x509", "-noout", "-serial", "-in"]).arg(certificate), b"")?.success()?.text())
}
