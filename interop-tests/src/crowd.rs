//! Many agents in one process: real registrations over real links, and behind them jobs that only send bytes. And those
//! who [visit](visitor) them.

mod job;
pub mod visitor;

pub use visitor::Visitor;

use anyhow::{Context, Result, bail};
use converge_certs::{Trust, TrustConfig};
use converge_proto::{
    CarrierChoice, FrameType, HostKey, Id, RelayUrl,
    rendezvous::{
        AgentInfo, Challenge, Message, Ping, Pong, Refused, Register, Registered, messages::Name,
        proof_over_challenge, proof_over_exporter,
    },
    version::ProtocolVersion,
};
use converge_transport::{DialOptions, Link, Role, Stream, dial, quic};
use futures_util::{StreamExt, TryStreamExt, stream};
use quinn::Endpoint;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::net::SocketAddr;
use tokio::task::JoinSet;

use crate::Carrier;

/// Registrations under way at the same time.
const AT_ONCE: usize = 64;

/// Agents that are registered, answer the relay's pings and take sessions until this is dropped.
pub struct Crowd {
    _endpoint: Option<Endpoint>,
    _agents: JoinSet<()>,
}

impl Crowd {
    /// Registers so many agents, on QUIC all over one socket. Needs an address as the relay's host.
    ///
    /// # Errors
    /// When one of them cannot be registered.
    pub async fn register(relay: &RelayUrl, carrier: Carrier, agents: u32) -> Result<Self> {
        let endpoint = match carrier {
            Carrier::Quic => Some(endpoint(relay)?),
            Carrier::WebSocket => None,
        };
        Self::register_over(endpoint, relay, carrier, agents).await
    }

    /// The same, each over a socket of its own that is set up as that of an agent: for what moves many bytes.
    ///
    /// # Errors
    /// When one of them cannot be registered.
    pub async fn dial(relay: &RelayUrl, carrier: Carrier, agents: u32) -> Result<Self> {
        Self::register_over(None, relay, carrier, agents).await
    }

    async fn register_over(
        endpoint: Option<Endpoint>,
        relay: &RelayUrl,
        carrier: Carrier,
        agents: u32,
    ) -> Result<Self> {
        raise_descriptors();
        let relay_by = over(relay, carrier)?;
        let shared = endpoint.clone();
        let registered = stream::iter(0..agents)
            .map(move |number| {
                let (endpoint, relay) = (shared.clone(), relay_by.clone());
                // In tasks of their own, to use all cores.
                tokio::spawn(async move {
                    let link = match endpoint {
                        Some(endpoint) => connect(&endpoint, &relay).await?,
                        None => dial(&relay, &DialOptions::default(), Role::Agent).await?,
                    };
                    register(link, number).await.with_context(|| format!("agent {number}"))
                })
            })
            .buffer_unordered(AT_ONCE);
        let mut tasks = JoinSet::new();
        let mut registered = std::pin::pin!(registered);
        while let Some(agent) = registered.try_next().await? {
            let (link, control) = agent?;
            tasks.spawn(stay(link, control));
        }
        Ok(Self { _endpoint: endpoint, _agents: tasks })
    }
}

/// One socket for all, set up as an agent's, so that it is the relay that is measured and not so many sockets.
fn endpoint(relay: &RelayUrl) -> Result<Endpoint> {
    let pin = relay.pin().context("the relay's URL has no pin")?;
    let tls = TrustConfig::new(Trust::Pin(pin.0))?.client_config(&[ProtocolVersion::NEWEST.alpn()])?;
    let mut endpoint = quic::dialing_endpoint(address(relay)?)?;
    endpoint.set_default_client_config(quic::client_config(tls)?);
    Ok(endpoint)
}

fn address(relay: &RelayUrl) -> Result<SocketAddr> {
    Ok(SocketAddr::new(relay.host().parse()?, relay.port()))
}

async fn connect(endpoint: &Endpoint, relay: &RelayUrl) -> Result<Link> {
    Ok(Link::quic(endpoint.connect(address(relay)?, "localhost")?.await?, None))
}

/// The same relay, with one carrier only.
///
/// # Errors
/// When that makes no URL.
pub fn over(relay: &RelayUrl, carrier: Carrier) -> Result<RelayUrl> {
    match carrier {
        Carrier::Quic => Ok(relay.clone().with_carriers(CarrierChoice::Quic)),
        Carrier::WebSocket => by_websocket(relay),
    }
}

/// The same relay, with WebSocket only.
///
/// # Errors
/// When that makes no URL.
pub fn by_websocket(relay: &RelayUrl) -> Result<RelayUrl> {
    let url: RelayUrl = format!("wss://{}:{}", relay.host(), relay.port()).parse()?;
    Ok(url.with_pin(relay.pin()))
}

/// The ID of agent `number`; they are counted from 0.
///
/// # Errors
/// Never, as far as anybody knows.
pub fn id(number: u32) -> Result<Id> {
    Ok(format!("crowd-{number}").parse()?)
}

/// Says who it is, as agent `number`, and proves it.
async fn register(link: Link, number: u32) -> Result<(Link, Stream)> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "")?;
    let mut control = link.open_stream().await?;
    let register = Register {
        wanted: Some(id(number)?),
        host_key: HostKey::new(key.public_key())?,
        proof: link.exporter().map(|exporter| proof_over_exporter(&key, &exporter)).transpose()?,
        agent: AgentInfo { software: Name::new("converge-bench"), ..AgentInfo::default() },
        token: None,
        fell_back: None,
    };
    control.send.write_frame(&register.to_frame()).await?;
    loop {
        let frame = control.recv.read_frame().await?.context("the relay has ended the stream")?;
        match frame.frame_type {
            FrameType::CHALLENGE => {
                let proof = proof_over_challenge(&key, &Challenge::from_frame(&frame)?)?;
                control.send.write_frame(&proof.to_frame()).await?;
            }
            FrameType::REFUSED => bail!("refused: {}", Refused::from_frame(&frame)?.text),
            _ => {
                Registered::from_frame(&frame)?;
                return Ok((link, control));
            }
        }
    }
}

/// Answers pings and takes sessions until the link ends.
async fn stay(link: Link, mut control: Stream) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            frame = control.recv.read_frame() => {
                let Ok(Some(frame)) = frame else { break };
                if let Ok(ping) = Ping::from_frame(&frame)
                    && frame.frame_type == FrameType::PING
                    && control.send.write_frame(&Pong { token: ping.token }.to_frame()).await.is_err()
                {
                    break;
                }
            }
            stream = link.accept_stream() => match stream {
                Ok(stream) => drop(sessions.spawn(job::serve(stream, link.room()))),
                Err(_) => break,
            },
            // A session that breaks shows at its visitor.
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// As many descriptors as the system allows.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What is missing then shows.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
