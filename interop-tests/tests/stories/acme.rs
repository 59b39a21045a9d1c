//! Certificates that the relay orders from an ACME server.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Agent, Process, Relay,
    acme::{AcmeServer, AcmeWorld},
    authority::serial_on,
    loopback,
    process::{Output, eventually, run},
    programs,
    setup::{make_key, show_logs},
};
use rustix::process::Signal;
use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::mpsc,
};
use tempfile::TempDir;

const NAME: &str = "relay.example.test";
const OTHER_NAME: &str = "other.example.test";

/// An ACME server, and where it looks for relays.
struct World {
    acme: AcmeServer,
    listen: SocketAddr,
    http: SocketAddr,
    directory: TempDir,
}

impl World {
    /// With a port for TLS that leads to the relay, or to nobody.
    fn new(validity: u64, tls_leads_here: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("converge-acme-").tempdir()?;
        let listen = loopback::free_port()?;
        let another = || -> Result<SocketAddr> { Ok(TcpListener::bind((listen.ip(), 0))?.local_addr()?) };
        let (http, nobody) = (another()?, another()?);
        let address: Ipv4Addr = listen.ip().to_string().parse()?;
        let tls_port = if tls_leads_here { listen.port() } else { nobody.port() };
        let world = AcmeWorld { address, tls_port, http_port: http.port(), validity };
        Ok(Self { acme: AcmeServer::start(directory.path(), world)?, listen, http, directory })
    }

    fn relay(&self, name: &str, arguments: &[&str]) -> Result<Relay> {
        self.relay_of(&self.acme.directory, name, arguments)
    }

    /// With another way to the ACME server.
    fn relay_of(&self, acme_directory: &str, name: &str, arguments: &[&str]) -> Result<Relay> {
        let mut command = Relay::command(&self.directory.path().join("state"), &self.listen.to_string())?;
        command.args(["--http", &self.http.to_string(), "--acme-domain", &format!("{NAME},{OTHER_NAME}")]);
        command.args(["--acme-email", "ops@example.test", "--acme-directory", acme_directory]);
        command.arg("--acme-ca-file").arg(&self.acme.roots).args(arguments);
        Relay::start_as(name, &mut command, self.directory.path())
    }

    /// A file with the root of what this ACME server issues.
    fn roots(&self) -> Result<PathBuf> {
        let roots = self.directory.path().join("issuer.pem");
        fs::write(&roots, self.acme.issuer()?)?;
        Ok(roots)
    }

    /// The home page, asked for by somebody who believes this ACME server.
    fn curl(&self, name: &str) -> Result<Output> {
        let (ip, port) = (self.listen.ip(), self.listen.port());
        let mut curl = Command::new(programs::installed("curl")?);
        curl.args(["-sS", "--max-time", "30", "--noproxy", "*", "-D", "-", "-o", "/dev/null", "--cacert"]);
        curl.arg(self.roots()?).args([
            "--resolve",
            &format!("{name}:{port}:{ip}"),
            &format!("https://{name}:{port}/"),
        ]);
        run(&mut curl, b"")
    }

    /// What the relay keeps for this server.
    fn kept(&self) -> Result<PathBuf> {
        let all = self.directory.path().join("state/relay-state/acme");
        Ok(fs::read_dir(all)?.next().context("a directory for the server")??.path())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(self.directory.path());
        }
    }
}

#[test]
fn certificate_is_ordered_renewed_and_kept() {
    tell(36, true, |world| {
        let mut relay = world.relay("relay", &[])?;
        assert_eq!(relay.url, format!("https://{NAME}"));
        relay.process.wait_for_log("a certificate", |log| log.contains("has issued a certificate"))?;
        for name in [NAME, OTHER_NAME] {
            let page = world.curl(name)?.success()?.text();
            assert!(page.to_lowercase().contains("strict-transport-security: max-age="), "{page}");
        }
        let port = world.listen.to_string();
        let first = serial_on(&port)?;

        // Two thirds of 36 seconds later.
        let second = eventually("a renewal", || serial_on(&port).ok().filter(|serial| *serial != first))?;
        let log = relay.process.log();
        assert_eq!(log.matches("made an account").count(), 1, "{log}");
        relay.process.signal(Signal::KILL)?;
        relay.process.wait()?;

        let again = world.relay("relay-again", &[])?;
        assert_eq!(serial_on(&port)?, second, "what was ordered is kept");
        assert!(!again.process.log().contains("made an account"), "{}", again.process.log());
        world.curl(NAME)?.success()?;
        let mut files: Vec<_> =
            fs::read_dir(world.kept()?)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        files.sort();
        assert_eq!(files, ["account.json", "certificate.pem"]);
        Ok(())
    });
}

#[test]
fn proof_is_by_file_where_nobody_answers_on_the_port_for_tls() {
    tell(24 * 3600, false, |world| {
        let mut relay = world.relay("relay-by-tls", &[])?;
        let wanted = [
            "is not proven to lead here",
            "port 443 of that name must lead to this relay",
            "trying again in",
        ];
        relay.process.wait_for_log("why not", |log| wanted.iter().all(|words| log.contains(words)))?;
        // It goes on with its own.
        let refused = world.curl(NAME)?;
        assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
        relay.process.signal(Signal::KILL)?;
        relay.process.wait()?;

        let relay = world.relay("relay-by-file", &["--acme-challenge", "http-01"])?;
        relay.process.wait_for_log("a certificate", |log| log.contains("has issued a certificate"))?;
        world.curl(NAME)?.success()?;
        Ok(())
    });
}

#[test]
fn agent_that_comes_before_the_first_certificate_waits_for_it() {
    tell(24 * 3600, true, |world| {
        // The ACME server answers when it is told to.
        let acme = world.acme.directory.trim_start_matches("https://").trim_end_matches("/dir").parse()?;
        let (answer, may_answer) = mpsc::channel();
        let held = lead_to(acme, move |_| {
            let _: Result<(), _> = may_answer.recv();
            Ok(())
        })?;
        let relay = world.relay_of(&format!("https://{held}/dir"), "relay", &[])?;

        let directory = world.directory.path();
        let job = directory.join("job");
        fs::create_dir(&job)?;
        make_key(&directory.join("key"))?;
        fs::copy(directory.join("key.pub"), job.join(".authorized_keys"))?;
        // A proxy that knows what no name server here does.
        let proxy = lead_to(world.listen, connected)?;
        let mut agent = Agent::command(&job, &format!("wss://{NAME}:{}", world.listen.port()))?;
        agent.args(["--proxy", &format!("http://{proxy}")]).env("SSL_CERT_FILE", world.roots()?);
        let mut agent = Process::start("agent", &mut agent, directory)?;
        agent.wait_for_log("that it waits", |log| {
            log.contains("a relay that waits for its first certificate") && log.contains("trying again")
        })?;
        // It does from now on, as nobody holds it any more.
        drop(answer);
        relay.process.wait_for_log("a certificate", |log| log.contains("has issued a certificate"))?;
        agent.wait_for("its address", |line| line.contains("converge ssh").then_some(()))?;
        Ok(())
    });
}

/// Listens, and leads each connection there as soon as `first` has seen it, one after the other, until the end of the
/// program. Returns where.
fn lead_to(
    there: SocketAddr,
    first: impl Fn(&mut TcpStream) -> Result<()> + Send + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((there.ip(), 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut here in listener.incoming().flatten() {
            // Whoever goes away meanwhile is not led anywhere.
            let led = first(&mut here).and_then(|()| Ok(TcpStream::connect(there)?));
            let Ok(there) = led else { continue };
            for (from, to) in [(here.try_clone(), there.try_clone()), (Ok(there), Ok(here))] {
                let (Ok(mut from), Ok(mut to)) = (from, to) else { continue };
                std::thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    Ok(address)
}

/// Answers a CONNECT (RFC 9110 section 9.3.6).
fn connected(stream: &mut TcpStream) -> Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut one = [0];
        stream.read_exact(&mut one)?;
        seen.extend(one);
    }
    Ok(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?)
}

fn tell(validity: u64, tls_leads_here: bool, story: fn(&World) -> Result<()>) {
    let world = World::new(validity, tls_leads_here).unwrap_or_else(|error| panic!("{error:?}"));
    // Here, where the world is still there: dropping it in a panic shows the logs.
    story(&world).unwrap_or_else(|error| panic!("{error:?}"));
}
