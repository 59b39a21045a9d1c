//! A real etcd.

use super::Place;
use crate::{
    authority::Authority,
    process::{Process, eventually, run},
    programs,
};
use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use std::{
    ffi::OsString,
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

/// Who relays are for one that asks.
const USER: &str = "relay";
const PASSWORD: &str = "open sesame";

/// Where it listens at a place of its own: for clients, and for other members.
const PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    place: Place,
    /// Where clients reach it.
    address: SocketAddr,
    peers: SocketAddr,
    directory: PathBuf,
    guard: Option<Guard>,
}

/// What it asks of whoever comes.
#[derive(Debug)]
struct Guard {
    authority: PathBuf,
    /// Its own certificate and key, and those of relays.
    own: [PathBuf; 2],
    relay: [PathBuf; 2],
    password: PathBuf,
}

impl Etcd {
    /// Starts one with its data in `directory/etcd`, on any free port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_at(&Place::Loopback, directory)
    }

    /// The same at another place.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_at(place: &Place, directory: &Path) -> Result<Self> {
        let mut etcd = Self::new(place, directory)?;
        etcd.start_again()?;
        Ok(etcd)
    }

    /// Starts one on loopback that asks for certificates, and for the password of a user who may use the keys of relays only.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_guarded(directory: &Path) -> Result<Self> {
        let mut etcd = Self::new(&Place::Loopback, directory)?;
        etcd.guard = Some(Guard::new(directory, etcd.address)?);
        etcd.start_again()?;
        etcd.make_users()?;
        Ok(etcd)
    }

    fn new(place: &Place, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (address, peers) = (place.address(PORT)?, place.address(PEER_PORT)?);
        let (place, directory) = (place.clone(), directory.to_owned());
        Ok(Self { process: None, place, address, peers, directory, guard: None })
    }

    fn url(&self) -> String {
        let scheme = if self.guard.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// What a relay is to be told of it.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--etcd".into(), self.url().into()];
        if let Some(Guard { authority, relay: [certificate, key], password, .. }) = &self.guard {
            let files = [("--etcd-ca", authority), ("--etcd-cert", certificate), ("--etcd-key", key)];
            for (flag, file) in files.into_iter().chain([("--etcd-password-file", password)]) {
                arguments.extend([flag.into(), file.into()]);
            }
            arguments.extend(["--etcd-user", USER].map(Into::into));
        }
        arguments
    }

    /// The file in which relays find the password.
    ///
    /// # Errors
    /// When it asks for none.
    pub fn password_file(&self) -> Result<&Path> {
        self.guard.as_ref().map(|guard| guard.password.as_path()).context("this etcd asks for no password")
    }

    fn make_users(&self) -> Result<()> {
        let key = |text: &str| BASE64.encode(text.as_bytes());
        let (first, behind_last) = (key("/converge/"), key("/converge0"));
        let range = format!(r#"{{"permType":"READWRITE","key":"{first}","range_end":"{behind_last}"}}"#);
        for (what, how) in [
            ("user/add", r#"{"name":"root","password":"root"}"#.to_owned()),
            ("role/add", r#"{"name":"root"}"#.to_owned()),
            ("user/grant", r#"{"user":"root","role":"root"}"#.to_owned()),
            ("user/add", format!(r#"{{"name":"{USER}","password":"{PASSWORD}"}}"#)),
            ("role/add", r#"{"name":"relays"}"#.to_owned()),
            ("role/grant", format!(r#"{{"name":"relays","perm":{range}}}"#)),
            ("user/grant", format!(r#"{{"user":"{USER}","role":"relays"}}"#)),
            ("enable", "{}".to_owned()),
        ] {
            self.ask(&format!("v3/auth/{what}"), &how)?;
        }
        Ok(())
    }

    /// By its HTTP gateway.
    fn ask(&self, path: &str, body: &str) -> Result<()> {
        let mut curl = Command::new(programs::installed("curl")?);
        curl.args(["-fsS", "--data", body]);
        if let Some(Guard { authority, relay: [certificate, key], .. }) = &self.guard {
            curl.arg("--cacert").arg(authority).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        run(curl.arg(format!("{}/{path}", self.url())), b"")?.success()?;
        Ok(())
    }

    /// Starts it after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(programs::installed("etcd")?);
        let (clients, peers) = (self.url(), format!("http://{}", self.peers));
        command.arg("--data-dir").arg(self.data()).args(["--name", "one", "--logger", "zap"]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("one={peers}")]);
        if let Some(Guard { authority, own: [certificate, key], .. }) = &self.guard {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(authority);
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        }
        self.process = Some(self.place.enter(|| Process::start("etcd", &mut command, &self.directory))?);
        self.place.enter(|| eventually("etcd listens", || TcpStream::connect(self.address).ok()))?;
        Ok(())
    }

    /// Ends it at once, as when its machine dies.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Loses all it has. It must not run.
    ///
    /// # Errors
    /// When that cannot be removed.
    pub fn lose_data(&self) -> Result<()> {
        ensure!(self.process.is_none(), "etcd runs");
        Ok(fs::remove_dir_all(self.data())?)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("etcd")
    }
}

impl Guard {
    fn new(directory: &Path, address: SocketAddr) -> Result<Self> {
        let files = |name: &str| ["pem", "key"].map(|end| directory.join(format!("{name}.{end}")));
        let authority = Authority::new(directory, "authority")?;
        let (own, relay) = (files("etcd"), files("relay"));
        authority.issue_to_etcd(&own[0], &own[1], &format!("IP:{}", address.ip()))?;
        authority.issue_to_agent(&relay[0], &relay[1], "relay", "DNS:relay")?;
        let password = directory.join("password");
        fs::write(&password, format!("{PASSWORD}\n"))?;
        Ok(Self { authority: authority.certificate(), own, relay, password })
    }
}
