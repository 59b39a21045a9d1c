//! What agents, relays and clients say to each other before and beside a session's bytes.

use crate::{
    host_key::HostKey,
    id::Id,
    relay_url::RelayUrl,
    relay_urls::RelayUrls,
    rendezvous::{refusal::RefusalCode, token::Token},
    session::SessionId,
    text::Text,
};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::time::Duration;

/// A word or two: a program, a host, a user.
pub type Name = Text<128>;
/// One line for a person.
pub type Line = Text<512>;

/// What an agent says about itself and its job. Shown to clients; not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AgentInfo {
    /// Program and version, such as `converge-agent/0.1.0`.
    #[n(0)]
    pub software: Name,
    /// The host name of the machine the job runs on.
    #[n(1)]
    pub host: Option<Name>,
    /// Operating system and architecture, such as `linux x86_64`.
    #[n(2)]
    pub platform: Option<Name>,
    /// The job it runs in, such as `octocat/hello-world: test #3`.
    #[n(3)]
    pub job: Option<Name>,
    /// Where the job can be looked at: an `http://` or `https://` URL. The agent may lie: check it before making a link.
    #[n(4)]
    pub job_url: Option<Line>,
    /// The CI system, such as `GitHub Actions`.
    #[n(5)]
    pub ci: Option<Name>,
}

/// What a client says about itself. Shown in the agent's log; not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ClientInfo {
    /// Program and version, such as `converge/0.1.0`.
    #[n(0)]
    pub software: Name,
    /// The client's address as the relay sees it. Set by the relay, whatever the client said.
    #[n(1)]
    pub address: Option<Name>,
}

/// Agent → relay, first frame of a link: asks for an ID.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Register {
    /// The ID the agent would like; without one the relay makes one up.
    #[n(0)]
    pub wanted: Option<Id>,
    /// The SSH host key, as its wire-format blob.
    #[n(1)]
    pub host_key: HostKey,
    /// [`proof_over_exporter`](super::proof_over_exporter) where the connection has one.
    #[n(2)]
    pub proof: Option<Signature>,
    /// Who registers.
    #[n(3)]
    pub agent: AgentInfo,
    /// What the relay lets the agent in by, where it wants something.
    #[n(4)]
    pub token: Option<Token>,
    /// As in [`Connect`].
    #[n(5)]
    pub fell_back: Option<bool>,
}

/// An SSHSIG signature blob of at most 512 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(pub Vec<u8>);

impl Signature {
    /// An Ed25519 SSHSIG has about 180 bytes.
    const MAX_BYTES: usize = 512;
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

impl<C> Encode<C> for Signature {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Signature {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes = d.bytes()?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(decode::Error::message(format!("a signature of {} bytes is too long", bytes.len())));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Relay → agent: prove the key over this nonce.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Challenge {
    /// 32 random bytes of the relay's.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
}

/// Agent → relay: the answer to a [`Challenge`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Proof {
    /// [`proof_over_challenge`](super::proof_over_challenge).
    #[n(0)]
    pub signature: Signature,
}

/// Relay → agent: the registration is done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Registered {
    /// The ID the agent now has.
    #[n(0)]
    pub id: Id,
    /// Why it is not the wanted one, when it is not.
    #[n(1)]
    pub reassigned: Option<Reassigned>,
    /// Send a [`Ping`] after this many milliseconds without one.
    #[n(2)]
    pub keepalive_ms: u32,
    /// What the relay allows.
    #[n(3)]
    pub limits: Limits,
    /// The URL under which people reach the relay, when its operator has set one; without a pin.
    #[n(4)]
    pub public_url: Option<Line>,
}

/// Limits that the relay puts on one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Limits {
    /// Sessions at the same time.
    #[n(0)]
    pub sessions: u32,
}

/// Why an agent did not get the ID it wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reassigned {
    /// Another host key holds it.
    HeldByAnotherKey,
    /// It is reserved for the bearer of a token.
    Reserved,
    /// The agent's token is for another ID, which it has got.
    ByToken,
    /// A reason of a newer relay.
    Other(u32),
}

impl Reassigned {
    const HELD_BY_ANOTHER_KEY: u32 = 1;
    const RESERVED: u32 = 2;
    const BY_TOKEN: u32 = 3;

    fn number(self) -> u32 {
        match self {
            Self::HeldByAnotherKey => Self::HELD_BY_ANOTHER_KEY,
            Self::Reserved => Self::RESERVED,
            Self::ByToken => Self::BY_TOKEN,
            Self::Other(number) => number,
        }
    }
}

impl std::fmt::Display for Reassigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HeldByAnotherKey => f.write_str("an agent with another host key holds it"),
            Self::Reserved => f.write_str("it is reserved for somebody else"),
            Self::ByToken => f.write_str("the token is for this ID"),
            Self::Other(number) => write!(f, "the relay gave reason {number}"),
        }
    }
}

impl<C> Encode<C> for Reassigned {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.u32(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Reassigned {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(match d.u32()? {
            Self::HELD_BY_ANOTHER_KEY => Self::HeldByAnotherKey,
            Self::RESERVED => Self::Reserved,
            Self::BY_TOKEN => Self::ByToken,
            other => Self::Other(other),
        })
    }
}

/// What the bytes of a session are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// SSH bytes as they are: a raw session, without resume.
    Raw,
    /// Frames of [`session`](crate::session): it outlives the links below it.
    Resumable,
    /// A kind of a newer peer; refused as unsupported.
    Other(u32),
}

impl<C> Encode<C> for SessionKind {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let number = match self {
            Self::Raw => 0,
            Self::Resumable => 1,
            Self::Other(number) => *number,
        };
        e.u32(number)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for SessionKind {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(match d.u32()? {
            0 => Self::Raw,
            1 => Self::Resumable,
            other => Self::Other(other),
        })
    }
}

/// Client → relay, first frame of a stream: join a session with an agent. Session bytes may follow at once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Connect {
    /// The agent's ID.
    #[n(0)]
    pub id: Id,
    /// What the bytes after the answer are.
    #[n(1)]
    pub kind: SessionKind,
    /// Who connects.
    #[n(2)]
    pub client: ClientInfo,
    /// How long to wait for an agent that is not there yet, in milliseconds.
    #[n(3)]
    pub wait_ms: u32,
    /// The session to be joined, so that a relay can tell a session that comes back from a new one. For its log.
    #[n(4)]
    pub session: Option<SessionId>,
    /// What the relay lets the client in by, where it wants something.
    #[n(5)]
    pub token: Option<Token>,
    /// Whether the session was there before, on another stream. For the relay's counters.
    #[n(6)]
    pub resume: Option<bool>,
    /// Where both carriers were tried: whether WebSocket was ready first. For the relay's counters.
    #[n(7)]
    pub fell_back: Option<bool>,
}

/// Client → relay, first frame of a stream: which host key does the agent of this ID have?
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Lookup {
    /// The agent's ID.
    #[n(0)]
    pub id: Id,
    /// How long to wait for an agent that is not there yet, in milliseconds.
    #[n(1)]
    pub wait_ms: u32,
    /// As in [`Connect`].
    #[n(2)]
    pub token: Option<Token>,
}

/// Relay → client: the session is there; its bytes follow.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Connected {
    /// The host key the agent has proved to the relay.
    #[n(0)]
    pub host_key: HostKey,
    /// What the agent says about itself.
    #[n(1)]
    pub agent: AgentInfo,
}

/// Relay → client: nobody has that ID yet. Sent again every few seconds, so that the wait is seen to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Waiting {
    /// How much of the wait is left, in milliseconds.
    #[n(0)]
    pub left_ms: u32,
}

/// Relay → client: the answer to a [`Lookup`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Found {
    /// The host key the agent has proved to the relay.
    #[n(0)]
    pub host_key: HostKey,
    /// What the agent says about itself.
    #[n(1)]
    pub agent: AgentInfo,
}

/// Relay → agent or client: no. The stream ends after it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// Why, for programs.
    #[n(0)]
    pub code: RefusalCode,
    /// Why, for people.
    #[n(1)]
    pub text: Line,
}

/// Relay → agent, first frame of a stream that the relay opens: a client's session. Its bytes follow.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Incoming {
    /// The relay's number for the session, the same in the logs of both.
    #[n(0)]
    pub session: u64,
    /// What the bytes are.
    #[n(1)]
    pub kind: SessionKind,
    /// Who comes.
    #[n(2)]
    pub client: ClientInfo,
}

/// Either side, on the control stream or in a session: are you there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ping {
    /// Comes back in the [`Pong`].
    #[n(0)]
    pub token: u64,
}

/// The answer to a [`Ping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Pong {
    /// The token of the ping.
    #[n(0)]
    pub token: u64,
}

/// Relay → agent: this relay is about to stop. Sessions may end in peace; the link will be closed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Goaway {
    /// Why, for people.
    #[n(0)]
    pub reason: Line,
    /// Do not redial before this many milliseconds after the link is closed.
    #[n(1)]
    pub retry_after_ms: u32,
    /// The URL of another relay of the same cluster that the agent should try first. An agent follows it only to a relay
    /// that it was given by name: what it shows to relays is not for strangers.
    #[n(2)]
    pub try_first: Option<Line>,
}

impl Goaway {
    /// Where to go, of the relays that the agent was given itself: the one with the host and port that the relay
    /// named, if there is one.
    pub fn choose<'a>(&self, given: &'a RelayUrls) -> Option<&'a RelayUrl> {
        let named: RelayUrl = self.try_first.as_ref()?.as_str().parse().ok()?;
        given.find(&named).or_else(|| given.iter().find(|relay| relay.is_same_host(&named)))
    }

    /// The time to wait before redialing.
    pub fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after_ms.into())
    }
}

/// Either side, the last frame on the control stream: this link ends on purpose, and its ID is free.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bye {
    /// Why, for people.
    #[n(0)]
    pub reason: Line,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goaway_leads_only_to_relays_that_were_given() {
        let given: RelayUrls = "https://a:4433/base,quic://b,ws://c:8080".parse().unwrap();
        let chosen = |named: Option<&str>| {
            let goaway = Goaway { reason: Line::new(""), retry_after_ms: 0, try_first: named.map(Line::new) };
            goaway.choose(&given).map(ToString::to_string)
        };
        for (named, followed) in [
            ("https://a:4433/base", "https://a:4433/base"),
            ("https://a:4433", "https://a:4433/base"),
            ("wss://b:443", "quic://b"),
            ("ws://c:8080", "ws://c:8080"),
        ] {
            assert_eq!(chosen(Some(named)).as_deref(), Some(followed), "{named}");
        }
        let strangers =
            ["https://evil", "https://a", "ws://a:4433", "https://c:8080", "https://a:4433@evil", "b"];
        for named in strangers {
            assert_eq!(chosen(Some(named)), None, "{named}");
        }
        assert_eq!(chosen(None), None);
    }
}
