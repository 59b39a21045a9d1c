//! A hand-written agent.

use super::{By, TestRelay, name, soon};
use converge_proto::{
    Frame, FrameType, HostKey,
    rendezvous::{
        AgentInfo, Bye, Challenge, ClientInfo, Goaway, Incoming, Message, Ping, Pong, Refused, Register,
        Registered, messages::Line, proof_over_challenge, proof_over_exporter,
    },
};
use converge_transport::{Link, Role, Stream};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::time::Duration;

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

pub fn public(seed: u8) -> HostKey {
    HostKey::new(key(seed).public_key()).unwrap()
}

/// An agent that has not dialed yet.
pub struct AgentBuilder<'a> {
    relay: &'a TestRelay,
    by: By,
    key: u8,
    signs_with: u8,
    wanted: Option<&'a str>,
}

impl TestRelay {
    /// An agent with key 1 that wants the ID `build`, unless said otherwise.
    pub fn an_agent(&self, by: By) -> AgentBuilder<'_> {
        AgentBuilder { relay: self, by, key: 1, signs_with: 1, wanted: Some("build") }
    }
}

impl<'a> AgentBuilder<'a> {
    pub fn with_key(mut self, seed: u8) -> Self {
        (self.key, self.signs_with) = (seed, seed);
        self
    }

    pub fn wanting(mut self, id: &'a str) -> Self {
        self.wanted = Some(id);
        self
    }

    pub fn wanting_any_id(mut self) -> Self {
        self.wanted = None;
        self
    }

    /// Names its key, and signs with this one.
    pub fn signing_with(mut self, seed: u8) -> Self {
        self.signs_with = seed;
        self
    }

    /// A link whose first stream has begun with `Register`, and nothing was answered yet.
    pub async fn begin(&self) -> (Link, Stream) {
        let link = self.relay.link(self.by, Role::Agent).await;
        let mut control = link.open_stream().await.unwrap();
        let signing_key = key(self.signs_with);
        let register = Register {
            wanted: self.wanted.map(|id| id.parse().unwrap()),
            host_key: public(self.key),
            proof: link.exporter().map(|exporter| proof_over_exporter(&signing_key, &exporter).unwrap()),
            agent: AgentInfo { software: name("test-agent"), ..AgentInfo::default() },
            token: None,
            fell_back: None,
        };
        control.send.write_frame(&register.to_frame()).await.unwrap();
        (link, control)
    }

    /// Registers. An error comes with the link, to see how that ends.
    pub async fn try_register(&self) -> Result<TestAgent, (Link, Refused)> {
        let (link, mut control) = self.begin().await;
        let mut challenged = false;
        loop {
            let frame = soon("an answer", control.recv.read_frame()).await.unwrap().unwrap();
            match frame.frame_type {
                FrameType::CHALLENGE => {
                    challenged = true;
                    let challenge = Challenge::from_frame(&frame).unwrap();
                    let proof = proof_over_challenge(&key(self.signs_with), &challenge).unwrap();
                    control.send.write_frame(&proof.to_frame()).await.unwrap();
                }
                FrameType::REFUSED => return Err((link, Refused::from_frame(&frame).unwrap())),
                _ => {
                    let registered = Registered::from_frame(&frame).unwrap();
                    return Ok(TestAgent { link, control, registered, challenged });
                }
            }
        }
    }

    pub async fn register(&self) -> TestAgent {
        self.try_register().await.unwrap_or_else(|(_, refused)| panic!("{refused:?}"))
    }

    /// Tries until the relay takes it, as agents do of a relay that has to find its etcd again.
    pub async fn register_in_the_end(&self) -> TestAgent {
        let trying = async {
            loop {
                if let Ok(agent) = self.try_register().await {
                    break agent;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("a registration", trying).await
    }
}

/// An agent that is registered.
pub struct TestAgent {
    pub link: Link,
    pub control: Stream,
    pub registered: Registered,
    /// Whether the relay wanted a nonce signed.
    pub challenged: bool,
}

impl TestAgent {
    pub fn id(&self) -> &str {
        self.registered.id.as_str()
    }

    /// The next session, from its first byte on.
    pub async fn next_session(&self) -> (ClientInfo, Stream) {
        let mut stream = soon("a session", self.link.accept_stream()).await.unwrap();
        let frame = soon("Incoming", stream.recv.read_frame()).await.unwrap().unwrap();
        (Incoming::from_frame(&frame).unwrap().client, stream)
    }

    /// The relay answers a ping, so the link is alive.
    pub async fn ping(&mut self) {
        self.control.send.write_frame(&Ping { token: 77 }.to_frame()).await.unwrap();
        assert_eq!(self.next_frame().await, Pong { token: 77 }.to_frame());
    }

    pub async fn next_frame(&mut self) -> Frame {
        soon("a frame", self.control.recv.read_frame()).await.unwrap().unwrap()
    }

    pub async fn goaway(&mut self) -> Goaway {
        Goaway::from_frame(&self.next_frame().await).unwrap()
    }

    /// Says goodbye and waits until the relay has closed the link.
    pub async fn say_bye(mut self) {
        let bye = Bye { reason: Line::new("the test is over") };
        self.control.send.write_frame(&bye.to_frame()).await.unwrap();
        soon("the end of the link", self.link.closed()).await;
    }
}
