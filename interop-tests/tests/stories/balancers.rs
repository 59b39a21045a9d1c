//! A relay behind what people put in front of it: haproxy with the PROXY protocol, nginx with headers and a sub-path.
//!
//! Both speak to the relay from an address of their own, which the relay must not take for anybody's.

use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    Agent, Carrier, Process, Relay, Setup, authority::Authority, loopback::free_port, process::run, programs,
};
use std::{
    fs,
    net::SocketAddr,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the proxy's connections come from, and nobody else's.
const PROXY: &str = "127.0.0.9";

#[test]
fn ssh_goes_through_haproxy_with_the_proxy_protocol() {
    crate::tell(Carrier::WebSocket, through_haproxy);
}

#[test]
fn addresses_of_agents_inside_lead_through_nginx_that_ends_tls() {
    crate::tell(Carrier::WebSocket, to_an_agent_inside);
}

#[test]
fn ssh_goes_through_nginx_at_a_sub_path() {
    crate::tell(Carrier::WebSocket, through_nginx);
}

fn through_haproxy(setup: &mut Setup) -> Result<()> {
    let site = Site::start(setup, &["--proxy-protocol=required"])?;
    let front = free_port()?;
    let backend = site.relay.url.trim_start_matches("https://").split('#').next().context("no address")?;
    let config = site.directory.join("haproxy.cfg");
    fs::write(
        &config,
        format!(
            "defaults\n    mode tcp\n    timeout connect 30s\n    timeout client 1h\n    timeout server 1h\n\
             listen relay\n    bind {front}\n    server relay {backend} send-proxy-v2 source {PROXY}\n"
        ),
    )?;
    let mut haproxy = Command::new(programs::installed("haproxy")?);
    let _haproxy = Process::start("haproxy", haproxy.arg("-db").arg("-f").arg(&config), &site.directory)?;
    until_it_listens(front)?;
    let pin = site.relay.url.split_once('#').context("no pin")?.1;
    site.is_reached_over(setup, &format!("wss://{front}#{pin}"))
}

fn through_nginx(setup: &mut Setup) -> Result<()> {
    let site = Site::start(setup, &[])?;
    let front = free_port()?;
    let _nginx = nginx(&site.directory, &format!("listen {front};"), "/sub/path/", &site.relay)?;
    until_it_listens(front)?;
    site.is_reached_over(setup, &format!("ws://{front}/sub/path"))
}

/// An agent inside has the pin of the relay's own certificate; people outside see nginx's.
fn to_an_agent_inside(setup: &mut Setup) -> Result<()> {
    let directory = setup.path().join("site");
    fs::create_dir(&directory)?;
    let front = free_port()?;
    let authority = Authority::new(&directory, "company")?;
    let (certificate, key) = (directory.join("nginx.pem"), directory.join("nginx.key"));
    authority.issue_to_relay(&certificate, &key, &format!("IP:{}", front.ip()))?;
    let mut relay = Relay::command(&directory, "127.0.0.1:0")?;
    let relay =
        Relay::start_as("relay", relay.args(["--public-url", &format!("https://{front}")]), &directory)?;
    assert_eq!(relay.url, format!("https://{front}"));
    let listen = format!(
        "listen {front} ssl;\n        ssl_protocols TLSv1.3;\n        ssl_certificate {};\n        ssl_certificate_key {};",
        certificate.display(),
        key.display()
    );
    let _nginx = nginx(&directory, &listen, "/", &relay)?;
    until_it_listens(front)?;

    // Its log says where it is itself, and what an operator would have to write.
    let log = relay.process.log();
    let said = |name: &str| {
        let rest = log.split_once(name)?.1;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let (listen, pin) = (said("listen=").context(log.clone())?, said(" pin=").context(log.clone())?);
    let job = setup.new_job("inside")?;
    let agent = Agent::start(&job, &directory, &format!("https://{listen}#{pin}"), ["--transport", "quic"])?;
    ensure!(agent.address.starts_with(&format!("https://{front}/client/")), "{}", agent.address);
    ensure!(!agent.address.contains('#'), "{}", agent.address);
    let mut ssh = setup.openssh_to("ssh", &agent.address)?;
    ssh.env("SSL_CERT_FILE", authority.certificate()).args(["echo", "inside"]);
    assert_eq!(run(&mut ssh, b"")?.success()?.text(), "inside\n");
    Ok(())
}

/// An nginx that passes this location on to the relay's cleartext listener.
fn nginx(directory: &Path, listen: &str, location: &str, relay: &Relay) -> Result<Process> {
    let (backend, shown) = (relay.http.trim_start_matches("ws://"), directory.display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {shown}/{kind};\n"))
        .concat();
    // Its workers would otherwise be somebody who may not enter this directory.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let config = directory.join("nginx.conf");
    fs::write(
        &config,
        format!(
            "{user}daemon off;\nmaster_process off;\npid {shown}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 256; }}\nhttp {{\n    access_log off;\n{temporary}\
             \x20   map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n\
             \x20   server {{\n        {listen}\n        location {location} {{\n\
             \x20           proxy_pass http://{backend}/;\n            proxy_bind {PROXY};\n\
             \x20           proxy_http_version 1.1;\n            proxy_set_header Upgrade $http_upgrade;\n\
             \x20           proxy_set_header Connection $connection_upgrade;\n\
             \x20           proxy_set_header Host $http_host;\n\
             \x20           proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             \x20           proxy_read_timeout 1h;\n            proxy_send_timeout 1h;\n\
             \x20           proxy_buffering off;\n        }}\n    }}\n}}\n"
        ),
    )?;
    let mut nginx = Command::new(programs::installed("nginx")?);
    nginx.args(["-e", "stderr", "-p"]).arg(directory).arg("-c").arg(&config);
    Process::start("nginx", &mut nginx, directory)
}

fn until_it_listens(address: SocketAddr) -> Result<()> {
    converge_interop_tests::process::eventually("the proxy", || TcpStream::connect(address).ok())?;
    Ok(())
}

/// A relay that trusts its proxy.
struct Site {
    relay: Relay,
    directory: PathBuf,
}

impl Site {
    fn start(setup: &Setup, arguments: &[&str]) -> Result<Self> {
        let directory = setup.path().join("site");
        fs::create_dir(&directory)?;
        let trusted = format!("--trusted-proxy={PROXY}/32");
        let arguments = [&[trusted.as_str()], arguments].concat();
        let relay = Relay::start_with(&directory, "127.0.0.1:0", &arguments)?;
        Ok(Self { relay, directory })
    }

    /// An agent comes over `url`, and a person with ssh.
    fn is_reached_over(&self, setup: &Setup, url: &str) -> Result<()> {
        let job = setup.new_job("behind")?;
        let agent = Agent::start(&job, &self.directory, url, ["--transport", "websocket"])?;
        let mut ssh = setup.openssh_to("ssh", &agent.address)?;
        let said = run(ssh.args(["echo", "through"]), b"")?.success()?.text();
        assert_eq!(said, "through\n");
        let log = self.relay.process.log();
        ensure!(log.contains("peer=127.0.0.1:"), "nobody's address is in the log:\n{log}");
        ensure!(!log.contains(&format!("peer={PROXY}:")), "the proxy was taken for a peer:\n{log}");
        Ok(())
    }
}
