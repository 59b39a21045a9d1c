//! Pebble, the ACME server that Let's Encrypt tests clients with, and the DNS it asks.

use crate::{Process, authority::Authority, loopback, process::run, programs};
use anyhow::{Context, Result};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

/// A running ACME server.
#[derive(Debug)]
pub struct AcmeServer {
    /// The URL of its directory.
    pub directory: String,
    /// Root of its own TLS.
    pub roots: PathBuf,
    /// The process.
    pub process: Process,
    _dns: Process,
    management: String,
}

/// What an ACME server is to find, and how long what it issues lives.
#[derive(Clone, Copy, Debug)]
pub struct AcmeWorld {
    /// Where every name leads.
    pub address: Ipv4Addr,
    /// The port that stands for 443.
    pub tls_port: u16,
    /// The port that stands for 80.
    pub http_port: u16,
    /// Seconds that a certificate is valid.
    pub validity: u64,
}

impl AcmeServer {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(directory: &Path, world: AcmeWorld) -> Result<Self> {
        let authority = Authority::new(directory, "acme-tls")?;
        let (cert, key) = (directory.join("acme-server.pem"), directory.join("acme-server.key"));
        let [listen, management, dns, unused] =
            [loopback::free_port()?, loopback::free_port()?, loopback::free_port()?, loopback::free_port()?];
        authority.issue_to_relay(&cert, &key, &format!("IP:{},IP:{}", listen.ip(), management.ip()))?;
        let config = configuration(&cert, &key, listen, management, world);
        let file = directory.join("pebble.json");
        fs::write(&file, config)?;

        let mut dns_command = Command::new(programs::installed("pebble-challtestsrv")?);
        dns_command.args(["-defaultIPv4", &world.address.to_string(), "-defaultIPv6", "", "-http01", ""]);
        dns_command.args(["-https01", "", "-tlsalpn01", "", "-dns01", &dns.to_string()]);
        dns_command.args(["-management", &unused.to_string()]);
        let dns_server = Process::start("dns", &mut dns_command, directory)?;

        let mut command = Command::new(programs::installed("pebble")?);
        command.arg("-config").arg(&file).args(["-dnsserver", &dns.to_string()]);
        // Otherwise it waits for some seconds before it looks.
        command.env("PEBBLE_VA_NOSLEEP", "1");
        let mut process = Process::start("acme", &mut command, directory)?;
        process
            .wait_for("that it listens", |line| line.contains("ACME directory available at").then_some(()))?;
        Ok(Self {
            directory: format!("https://{listen}/dir"),
            roots: authority.certificate(),
            process,
            _dns: dns_server,
            management: format!("https://{management}"),
        })
    }

    /// The root of what it issues, which is another one for each start.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn issuer(&self) -> Result<String> {
        let mut curl = Command::new(programs::installed("curl")?);
        curl.args(["-sS", "--max-time", "30", "--noproxy", "*", "--cacert"]).arg(&self.roots);
        let root = run(curl.arg(format!("{}/roots/0", self.management)), b"")?;
        let text = root.success()?.text();
        text.contains("BEGIN CERTIFICATE").then_some(text).context("a root certificate")
    }
}

fn configuration(
    cert: &Path,
    key: &Path,
    listen: SocketAddr,
    management: SocketAddr,
    world: AcmeWorld,
) -> String {
    let AcmeWorld { tls_port, http_port, validity, .. } = world;
    format!(
        "{{\"pebble\": {{\"listenAddress\": \"{listen}\", \"managementListenAddress\": \"{management}\", \
         \"certificate\": \"{}\", \"privateKey\": \"{}\", \"tlsPort\": {tls_port}, \"httpPort\": {http_port}, \
         \"certificateValidityPeriod\": {validity}}}}}\n",
        cert.display(),
        key.display()
    )
}
