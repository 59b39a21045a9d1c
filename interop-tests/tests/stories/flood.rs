//! Thousands of strangers at once, while somebody works: connections that say nothing, registrations that prove
//! nothing, tokens that are wrong, and everything too large.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use converge_certs::{Trust, TrustConfig};
use converge_interop_tests::{
    Agent, Carrier, Process, Relay, Setup,
    crowd::raise_descriptors,
    process::{PATIENCE, eventually, run},
    programs, setup,
};
use converge_proto::{
    CarrierChoice, HostKey, Id, RelayUrl,
    rendezvous::{
        AgentInfo, ClientInfo, Connect, Message, RefusalCode, Refused, Register, SessionKind, messages::Name,
    },
    version::ProtocolVersion,
};
use converge_transport::{DialOptions, Link, Role, dial};
use futures_util::{StreamExt, stream};
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rustix::process::{Pid, Signal, kill_process_group};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Silent connections on each TCP listener, and first packets of QUIC connections that say nothing more.
const SILENT_TCP: u32 = 2000;
const SILENT_QUIC: u32 = 1000;
/// Registrations with a wrong proof.
const WRONG_PROOFS: u32 = 1000;
/// Agents and clients with a wrong token, on each carrier.
const WRONG_TOKENS: u32 = 250;
/// Of all of them, at the same time: fewer than the answers that the relay keeps back at once (256), so that each of them is a
/// late one.
const WRONG_TOKENS_AT_ONCE: usize = 200;
/// Requests of each kind that are too large.
const OVERSIZED: u32 = 50;
/// The strangers' addresses.
const SOURCES: u32 = 50;
/// How long the undisturbed session is looked at.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// What all of it may cost the relay, generously.
const MOST_MEMORY_BYTES: u64 = 384 * 1024 * 1024;

#[test]
fn flood_of_strangers_disturbs_nobody_over_quic() {
    crate::tell(Carrier::Quic, flood_of_strangers_disturbs_nobody);
}

#[test]
fn flood_of_strangers_disturbs_nobody_over_websocket() {
    crate::tell(Carrier::WebSocket, flood_of_strangers_disturbs_nobody);
}

fn flood_of_strangers_disturbs_nobody(setup: &mut Setup) -> Result<()> {
    raise_descriptors();
    converge_certs::install_provider();
    let token = want_tokens(setup)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let relay: RelayUrl = setup.relay.url.parse()?;
    let tls = SocketAddr::new(relay.host().parse()?, relay.port());
    let cleartext: SocketAddr = setup.relay.http.trim_start_matches("ws://").parse()?;
    let initials = first_packets(&runtime, SILENT_QUIC)?;

    let session = Download::start(setup, &token)?;
    let begun = Mark::of(&session);
    std::thread::sleep(QUIET_TIME);
    let before = begun.mib_per_second(&session);
    let memory_before = setup.relay.process.resident_memory_bytes()?;

    let begun = Mark::of(&session);
    let held = runtime.block_on(async {
        let (silent_tls, silent_http) = tokio::join!(
            silent(tls, SILENT_TCP, b"\x16\x03\x01\x02\x00"),
            silent(cleartext, SILENT_TCP, b"GET /")
        );
        send_first_packets(tls, &initials).await?;
        println!(
            "silent: {} of {SILENT_TCP} on TLS, {} of {SILENT_TCP} on HTTP",
            silent_tls.len(),
            silent_http.len()
        );
        wrong_proofs(tls).await?;
        let begun = Mark::of(&session);
        wrong_tokens(&relay, &setup.agent.id.parse()?).await?;
        println!("the session had {:.0} MiB/s during these", begun.mib_per_second(&session));
        oversized(cleartext).await?;
        anyhow::Ok((silent_tls, silent_http))
    })?;
    let during = begun.mib_per_second(&session);
    let memory = setup.relay.process.peak_memory_bytes()?;
    println!(
        "{}: an existing session had {before:.0} MiB/s before and {during:.0} MiB/s during the flood of {:.1} s, {:.2} \
         of it; the relay had {} MiB before and at most {} MiB",
        setup.carrier,
        begun.at.elapsed().as_secs_f64(),
        during / before,
        memory_before >> 20,
        memory >> 20,
    );
    ensure!(during > before / 20.0, "the session came to a stop");
    ensure!(memory < MOST_MEMORY_BYTES, "the relay had {} MiB", memory >> 20);

    // The relay lets go of those who say nothing, whatever they do.
    let mut held = held;
    runtime.block_on(async {
        for stream in held.0.iter_mut().chain(&mut held.1) {
            let mut answer = [0; 512];
            let end = async { while matches!(stream.read(&mut answer).await, Ok(1..)) {} };
            timeout(PATIENCE, end).await.context("a silent connection is still open")?;
        }
        anyhow::Ok(())
    })?;
    drop(session);
    // Newcomers are served as ever.
    let mut ssh = setup.openssh("ssh")?;
    ssh.env("CONVERGE_TOKEN", &token).args(["echo", "well"]);
    assert_eq!(run(&mut ssh, b"")?.success()?.text(), "well\n");
    let job = setup.new_job("after")?;
    let mut agent = setup.agent_command(&job)?;
    let mut agent = Process::start("after", agent.env("CONVERGE_TOKEN", &token), setup.path())?;
    agent.wait_for("its address", |line| line.contains("ssh").then_some(()))?;
    Ok(())
}

/// Puts a relay that wants tokens in the place of the setup's, and an agent that has one. Returns the token.
fn want_tokens(setup: &mut Setup) -> Result<String> {
    let directory = setup.path().join("with-tokens");
    fs::create_dir(&directory)?;
    let file = directory.join("tokens.toml");
    let mut create = Command::new(programs::own("converge-relay")?);
    setup::clean(&mut create).args(["token", "create", "--name", "flood", "--scope", "agent,client"]);
    create.arg("--tokens-file").arg(&file);
    let token = run(&mut create, b"")?.success()?.text().trim().to_owned();
    let mut relay = Relay::command(&directory, "127.0.0.1:0")?;
    relay.args(["--agent-auth", "token", "--client-auth", "token", "--tokens-file"]).arg(&file);
    setup.relay = Relay::start_as("relay-with-tokens", &mut relay, setup.path())?;
    let mut agent = setup.agent_command(&setup.job())?;
    setup.agent = Agent::start_as("agent-with-token", agent.env("CONVERGE_TOKEN", &token), setup.path())?;
    Ok(token)
}

/// A session in which the agent sends as fast as it can.
struct Download {
    ssh: Child,
    bytes: Arc<AtomicU64>,
}

impl Download {
    fn start(setup: &Setup, token: &str) -> Result<Self> {
        let mut command = setup.openssh("ssh")?;
        command.env("CONVERGE_TOKEN", token);
        command.arg("cat /dev/zero").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // `converge` starts ssh, and both are to end.
        let mut ssh = command.process_group(0).spawn()?;
        let mut output = ssh.stdout.take().context("no output")?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = bytes.clone();
        std::thread::spawn(move || {
            let mut block = vec![0; 64 * 1024];
            while let Ok(len @ 1..) = output.read(&mut block) {
                counter.fetch_add(len as u64, Ordering::Relaxed);
            }
        });
        eventually("the first bytes", || (bytes.load(Ordering::Relaxed) > 0).then_some(()))?;
        Ok(Self { ssh, bytes })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // They may have ended already.
        let group = i32::try_from(self.ssh.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.ssh.wait();
    }
}

/// How far a download was, and when.
struct Mark {
    at: Instant,
    bytes: u64,
}

impl Mark {
    fn of(download: &Download) -> Self {
        Self { at: Instant::now(), bytes: download.bytes.load(Ordering::Relaxed) }
    }

    #[allow(clippy::cast_precision_loss)] // A figure for people.
    fn mib_per_second(&self, download: &Download) -> f64 {
        let bytes = download.bytes.load(Ordering::Relaxed) - self.bytes;
        bytes as f64 / (1024.0 * 1024.0) / self.at.elapsed().as_secs_f64()
    }
}

/// One of the strangers' addresses.
fn source(number: u32) -> SocketAddr {
    let last = u8::try_from(number % SOURCES).unwrap_or(0) + 1;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 3, 0, last)), 0)
}

/// Connections that have begun to say something and go no further. Some are refused, which is no matter.
async fn silent(relay: SocketAddr, count: u32, first: &'static [u8]) -> Vec<TcpStream> {
    let connecting = stream::iter(0..count).map(|number| async move {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind(source(number)).ok()?;
        let mut stream = timeout(PATIENCE, socket.connect(relay)).await.ok()?.ok()?;
        stream.write_all(first).await.ok()?;
        Some(stream)
    });
    connecting.buffer_unordered(64).filter_map(std::future::ready).collect().await
}

fn quic_endpoint(source: SocketAddr) -> Result<Endpoint> {
    let tls = TrustConfig::new(Trust::Insecure)?.client_config(&[ProtocolVersion::NEWEST.alpn()])?;
    let mut endpoint = Endpoint::client(source)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)));
    Ok(endpoint)
}

/// What so many QUIC clients say first, each as its datagrams.
fn first_packets(runtime: &tokio::runtime::Runtime, count: u32) -> Result<Vec<Vec<Vec<u8>>>> {
    let listener = UdpSocket::bind("127.0.0.1:0")?;
    listener.set_read_timeout(Some(PATIENCE))?;
    let address = listener.local_addr()?;
    let mut heard: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let mut datagram = vec![0; 2000];
    let _in_runtime = runtime.enter();
    let endpoint = quic_endpoint(source(0))?;
    // A few at a time, so that the socket's buffer loses none.
    for _ in 0..count.div_ceil(10) {
        let connecting: Result<Vec<_>, _> = (0..10).map(|_| endpoint.connect(address, "relay")).collect();
        let connecting = connecting?;
        let wanted = heard.len() + connecting.len();
        while heard.len() < wanted {
            let (len, _) = listener.recv_from(&mut datagram).context("a first packet is missing")?;
            // RFC 9000, section 17.2: the length of the destination connection ID, then the ID.
            let id_len = usize::from(datagram[5]);
            heard.entry(datagram[6..6 + id_len].to_vec()).or_default().push(datagram[..len].to_vec());
        }
        drop(connecting);
    }
    Ok(heard.into_values().collect())
}

async fn send_first_packets(relay: SocketAddr, initials: &[Vec<Vec<u8>>]) -> Result<()> {
    for (number, datagrams) in (0..).zip(initials) {
        let socket = tokio::net::UdpSocket::bind(source(number)).await?;
        for datagram in datagrams {
            socket.send_to(datagram, relay).await?;
        }
    }
    Ok(())
}

/// Registrations that name somebody else's key. Each is refused, for that or for coming too often.
async fn wrong_proofs(relay: SocketAddr) -> Result<()> {
    let endpoint = quic_endpoint(SocketAddr::from(([127, 4, 0, 1], 0)))?;
    let outcomes: Vec<_> = stream::iter(0..WRONG_PROOFS)
        .map(|_| wrong_proof(&endpoint, relay))
        .buffer_unordered(32)
        .collect()
        .await;
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome?).or_insert(0) += 1;
    }
    println!("registrations with a wrong proof: {counts:?}");
    ensure!(counts.contains_key("told that the proof is wrong"), "none got as far as its proof");
    Ok(())
}

async fn wrong_proof(endpoint: &Endpoint, relay: SocketAddr) -> Result<&'static str> {
    let connection = match timeout(PATIENCE, endpoint.connect(relay, "relay")?).await? {
        Ok(connection) => connection,
        Err(quinn::ConnectionError::ConnectionClosed(_)) => return Ok("refused before the handshake"),
        Err(error) => bail!("neither served nor refused: {error}"),
    };
    let link = Link::quic(connection, None);
    let refused = async {
        let mut control = link.open_stream().await?;
        let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32])), "")?;
        let register = Register {
            wanted: None,
            host_key: HostKey::new(key.public_key())?,
            proof: Some(converge_proto::rendezvous::proof_over_exporter(&key, &[0; 32])?),
            agent: AgentInfo::default(),
            token: None,
            fell_back: None,
        };
        control.send.write_frame(&register.to_frame()).await?;
        let frame = control.recv.read_frame().await?.context("no answer")?;
        anyhow::Ok(Refused::from_frame(&frame)?.code)
    };
    match timeout(PATIENCE, refused).await? {
        Ok(RefusalCode::BAD_PROOF) => Ok("told that the proof is wrong"),
        Ok(code) => bail!("refused otherwise: {code}"),
        Err(_) => Ok("link closed"),
    }
}

/// Agents and clients whose token nobody has made. Each is told so, soon or late.
async fn wrong_tokens(relay: &RelayUrl, id: &Id) -> Result<()> {
    let begun = Instant::now();
    let kinds = [
        (Carrier::Quic, "agent"),
        (Carrier::Quic, "client"),
        (Carrier::WebSocket, "agent"),
        (Carrier::WebSocket, "client"),
    ];
    let outcomes: Vec<_> =
        stream::iter((0..WRONG_TOKENS).flat_map(|number| kinds.map(|kind| (number, kind))))
            .map(|(number, (carrier, who))| async move {
                let outcome = timeout(PATIENCE, wrong_token(relay, id, number, carrier, who)).await;
                let outcome =
                    outcome.with_context(|| format!("no answer to an {who} with a wrong token"))??;
                anyhow::Ok((format!("{who} on {carrier}"), outcome))
            })
            .buffer_unordered(WRONG_TOKENS_AT_ONCE)
            .collect()
            .await;
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome?).or_insert(0) += 1;
    }
    println!("wrong tokens, in {:.1} s: {counts:?}", begun.elapsed().as_secs_f64());
    for (carrier, who) in kinds {
        let told = counts.get(&(format!("{who} on {carrier}"), TOLD)).copied().unwrap_or_default();
        ensure!(told > WRONG_TOKENS / 2, "{told} {who}s on {carrier} got as far as their token");
    }
    Ok(())
}

const TOLD: &str = "told that the token is wrong";

async fn wrong_token(
    relay: &RelayUrl,
    id: &Id,
    number: u32,
    carrier: Carrier,
    who: &str,
) -> Result<&'static str> {
    let carriers = match carrier {
        Carrier::Quic => CarrierChoice::Quic,
        Carrier::WebSocket => CarrierChoice::WebSocket,
    };
    let role = if who == "agent" { Role::Agent } else { Role::Client(id) };
    let link = match dial(&relay.clone().with_carriers(carriers), &DialOptions::default(), role).await {
        Ok(link) => link,
        Err(error) if error.may_pass() => return Ok("not let in"),
        Err(error) => bail!("neither served nor refused: {error}"),
    };
    // Some of them look like those of a CI system.
    let token = if number.is_multiple_of(5) { format!("e{number}.x.y") } else { format!("{number:043}") };
    let token = Some(token.parse()?);
    let first = if who == "agent" {
        let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32])), "")?;
        let exporter = link.exporter().context("there is TLS")?;
        Register {
            wanted: None,
            host_key: HostKey::new(key.public_key())?,
            proof: Some(converge_proto::rendezvous::proof_over_exporter(&key, &exporter)?),
            agent: AgentInfo::default(),
            token,
            fell_back: None,
        }
        .to_frame()
    } else {
        let client = ClientInfo { software: Name::new("flood"), address: None };
        let (id, kind) = (id.clone(), SessionKind::Raw);
        Connect { id, kind, client, wait_ms: 0, session: None, token, resume: None, fell_back: None }
            .to_frame()
    };
    let mut stream = link.open_stream().await?;
    stream.send.write_frame(&first).await?;
    let frame = stream.recv.read_frame().await?.context("no answer")?;
    match Refused::from_frame(&frame)?.code {
        RefusalCode::UNAUTHORIZED => Ok(TOLD),
        RefusalCode::LIMIT => Ok("met a limit"),
        code => bail!("refused otherwise: {code}"),
    }
}

/// Headers, URLs, bodies and messages that are too large. Nobody waits for all of it to be read.
async fn oversized(relay: SocketAddr) -> Result<()> {
    let much = "x".repeat(1024 * 1024);
    let websocket = "GET /client/none HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: converge.1\r\n\r\n";
    // A binary message of 2^40 bytes, and a frame of 2^29 in a message of its own.
    let message = b"\x82\xff\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let frame = b"\x82\x85\x00\x00\x00\x00\x01\xa0\x00\x00\x00";
    let requests = [
        Bytes::from(format!("GET /{much} HTTP/1.1\r\nHost: relay\r\n\r\n")),
        Bytes::from(format!("GET / HTTP/1.1\r\nHost: relay\r\nX-Much: {much}\r\n\r\n")),
        Bytes::from(format!("POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 1048576\r\n\r\n{much}")),
        Bytes::from([websocket.as_bytes(), message].concat()),
        Bytes::from([websocket.as_bytes(), frame].concat()),
    ];
    let asking =
        stream::iter((0..OVERSIZED).flat_map(|number| requests.clone().map(|request| (number, request))))
            .map(|(number, request)| async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(source(number))?;
                let mut stream = timeout(PATIENCE, socket.connect(relay)).await??;
                let (mut from, mut to) = stream.split();
                let telling = async {
                    // The relay may have heard enough.
                    let _ = to.write_all(&request).await;
                    let mut answer = Vec::new();
                    let _ = from.read_to_end(&mut answer).await;
                    answer
                };
                let answer = timeout(PATIENCE, telling).await.context("a request too large is still open")?;
                ensure!(!answer.starts_with(b"HTTP/1.1 200"), "taken: {}", String::from_utf8_lossy(&answer));
                anyhow::Ok(())
            })
            .buffer_unordered(16);
    asking.collect::<Vec<_>>().await.into_iter().collect()
}
