//! One agent's registration as the relay sees it: `Register`, perhaps `Challenge` and `Proof`, then the claim.
//!
//! The proof ties the registration to the host key, so that nobody takes an agent's ID without its key. It is
//! made over the TLS exporter of the connection ([RFC 5705]), which costs no round trip, or, where the relay has no
//! exporter or another one than the agent (TLS ended in front of the relay), over a nonce.
//!
//! [RFC 5705]: https://www.rfc-editor.org/rfc/rfc5705

use crate::{
    frame::{Frame, FrameError},
    host_key::{HostKey, sign},
    id::Id,
    message::Message,
    rendezvous::{
        messages::{AgentInfo, Challenge, Proof, Register, Signature},
        token::Token,
    },
};
use ssh_key::PrivateKey;

/// The label under which both ends take 32 bytes from the TLS exporter.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-converge-register";
/// The SSHSIG namespace of a signature over the exporter.
const EXPORTER_NAMESPACE: &str = "register-over-exporter@converge";
/// The SSHSIG namespace of a signature over a nonce.
const CHALLENGE_NAMESPACE: &str = "register-over-challenge@converge";

/// The agent's proof in [`Register`], over 32 bytes from the TLS exporter.
///
/// # Errors
/// When the key cannot sign.
pub fn proof_over_exporter(key: &PrivateKey, exporter: &[u8; 32]) -> Result<Signature, ssh_key::Error> {
    sign(key, EXPORTER_NAMESPACE, exporter).map(Signature)
}

/// The agent's answer to a [`Challenge`].
///
/// # Errors
/// When the key cannot sign.
pub fn proof_over_challenge(key: &PrivateKey, challenge: &Challenge) -> Result<Proof, ssh_key::Error> {
    sign(key, CHALLENGE_NAMESPACE, &challenge.nonce)
        .map(|signature| Proof { signature: Signature(signature) })
}

/// What stands between the agent's TLS and ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Our end of the TLS connection is the agent's other end; a proof over anything else is wrong.
    Exporter([u8; 32]),
    /// TLS may end in front of us; a proof that does not match is answered with a challenge.
    ExporterIfDirect([u8; 32]),
    /// No TLS here.
    None,
}

/// The relay's side of one registration. Feed it each frame of the control stream until it is
/// [`Verified`](HandshakeStep::Verified).
pub struct RegisterHandshake {
    binding: ChannelBinding,
    nonce: [u8; 32],
    state: State,
}

enum State {
    AwaitRegister,
    AwaitProof(Box<Register>),
    Done,
}

/// What a frame led to.
#[derive(Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// Send this and wait for the next frame.
    SendChallenge(Challenge),
    /// The agent has proved its key.
    Verified(Box<VerifiedAgent>),
}

/// An agent that has proved its host key on this link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAgent {
    /// The ID it would like.
    pub wanted: Option<Id>,
    /// The key it has proved.
    pub host_key: HostKey,
    /// What it says about itself.
    pub info: AgentInfo,
    /// What it shows to be let in.
    pub token: Option<Token>,
    /// Where it tried both carriers: whether WebSocket was ready first.
    pub fell_back: Option<bool>,
}

impl From<Register> for Box<VerifiedAgent> {
    fn from(register: Register) -> Self {
        Self::new(VerifiedAgent {
            wanted: register.wanted,
            host_key: register.host_key,
            info: register.agent,
            token: register.token,
            fell_back: register.fell_back,
        })
    }
}

impl RegisterHandshake {
    /// `nonce` is 32 fresh random bytes for this link.
    pub fn new(binding: ChannelBinding, nonce: [u8; 32]) -> Self {
        Self { binding, nonce, state: State::AwaitRegister }
    }

    /// Takes the next frame of the control stream.
    ///
    /// # Errors
    /// The frame is not the expected one, or the proof is wrong. The link is to be closed.
    pub fn handle_frame(&mut self, frame: &Frame) -> Result<HandshakeStep, HandshakeError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::AwaitRegister => self.handle_register(Register::from_frame(frame)?),
            State::AwaitProof(register) => {
                let proof = Proof::from_frame(frame)?;
                if !register.host_key.verify(CHALLENGE_NAMESPACE, &self.nonce, &proof.signature.0) {
                    return Err(HandshakeError::BadProof);
                }
                Ok(HandshakeStep::Verified((*register).into()))
            }
            State::Done => Err(FrameError::Unexpected {
                frame_type: frame.frame_type,
                expected: "nothing more of the registration",
            }
            .into()),
        }
    }

    fn handle_register(&mut self, register: Register) -> Result<HandshakeStep, HandshakeError> {
        let proves = |exporter: &[u8; 32]| {
            let proof = register.proof.as_ref();
            proof.is_some_and(|proof| register.host_key.verify(EXPORTER_NAMESPACE, exporter, &proof.0))
        };
        match self.binding {
            ChannelBinding::Exporter(exporter) | ChannelBinding::ExporterIfDirect(exporter)
                if proves(&exporter) =>
            {
                Ok(HandshakeStep::Verified(register.into()))
            }
            ChannelBinding::Exporter(_) => Err(HandshakeError::BadProof),
            ChannelBinding::ExporterIfDirect(_) | ChannelBinding::None => {
                self.state = State::AwaitProof(Box::new(register));
                Ok(HandshakeStep::SendChallenge(Challenge { nonce: self.nonce }))
            }
        }
    }
}

/// Why a registration failed. The agent is to blame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not the frame that comes now.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The signature is not the host key's over this connection.
    #[error("the proof of the host key is not valid for this connection")]
    BadProof,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host_key::tests::{host_key, key_pair},
        rendezvous::{Ping, Pong},
    };

    const EXPORTER: [u8; 32] = [1; 32];
    const NONCE: [u8; 32] = [2; 32];

    fn register(proof: Option<Signature>) -> Frame {
        Register {
            wanted: None,
            host_key: host_key(1),
            proof,
            agent: AgentInfo::default(),
            token: None,
            fell_back: None,
        }
        .to_frame()
    }

    #[expect(clippy::unnecessary_wraps)] // It stands where messages have an option.
    fn exporter_proof(seed: u8, exporter: [u8; 32]) -> Option<Signature> {
        Some(proof_over_exporter(&key_pair(seed), &exporter).unwrap())
    }

    fn is_verified(step: &Result<HandshakeStep, HandshakeError>) -> bool {
        matches!(step, Ok(HandshakeStep::Verified(agent)) if agent.host_key == host_key(1))
    }

    #[test]
    fn proof_over_the_exporter_needs_no_round_trip() {
        for binding in [ChannelBinding::Exporter(EXPORTER), ChannelBinding::ExporterIfDirect(EXPORTER)] {
            let mut handshake = RegisterHandshake::new(binding, NONCE);
            assert!(is_verified(&handshake.handle_frame(&register(exporter_proof(1, EXPORTER)))));
        }
    }

    #[test]
    fn wrong_missing_or_foreign_proof_is_refused_where_tls_is_direct() {
        for proof in
            [None, exporter_proof(1, [9; 32]), exporter_proof(2, EXPORTER), Some(Signature(vec![0; 99]))]
        {
            let mut handshake = RegisterHandshake::new(ChannelBinding::Exporter(EXPORTER), NONCE);
            assert_eq!(handshake.handle_frame(&register(proof)), Err(HandshakeError::BadProof));
        }
    }

    #[test]
    fn without_a_common_exporter_the_nonce_is_signed() {
        let elsewhere = exporter_proof(1, [9; 32]);
        for (binding, proof) in
            [(ChannelBinding::None, None), (ChannelBinding::ExporterIfDirect(EXPORTER), elsewhere)]
        {
            let mut handshake = RegisterHandshake::new(binding, NONCE);
            let step = handshake.handle_frame(&register(proof)).unwrap();
            let HandshakeStep::SendChallenge(challenge) = step else { panic!("{step:?}") };
            assert_eq!(challenge.nonce, NONCE);
            let proof = proof_over_challenge(&key_pair(1), &challenge).unwrap();
            assert!(is_verified(&handshake.handle_frame(&proof.to_frame())));
        }
    }

    #[test]
    fn answer_to_another_challenge_or_with_another_key_is_refused() {
        let other_nonce = Challenge { nonce: [3; 32] };
        let right_nonce = Challenge { nonce: NONCE };
        for (key, challenge) in [(1, &other_nonce), (2, &right_nonce)] {
            let mut handshake = RegisterHandshake::new(ChannelBinding::None, NONCE);
            handshake.handle_frame(&register(None)).unwrap();
            let proof = proof_over_challenge(&key_pair(key), challenge).unwrap();
            assert_eq!(handshake.handle_frame(&proof.to_frame()), Err(HandshakeError::BadProof));
        }
    }

    #[test]
    fn a_signature_over_the_exporter_is_none_over_a_nonce() {
        let mut handshake = RegisterHandshake::new(ChannelBinding::None, EXPORTER);
        handshake.handle_frame(&register(None)).unwrap();
        let proof = Proof { signature: exporter_proof(1, EXPORTER).unwrap() };
        assert_eq!(handshake.handle_frame(&proof.to_frame()), Err(HandshakeError::BadProof));
    }

    #[test]
    fn every_frame_in_every_state() {
        let proof = proof_over_challenge(&key_pair(1), &Challenge { nonce: NONCE }).unwrap().to_frame();
        let frames = [register(None), proof, Ping { token: 1 }.to_frame(), Pong { token: 1 }.to_frame()];
        let mut table = String::new();
        for state in ["await register", "await proof", "done"] {
            for frame in &frames {
                let mut handshake = RegisterHandshake::new(ChannelBinding::None, NONCE);
                if state != "await register" {
                    handshake.handle_frame(&frames[0]).unwrap();
                }
                if state == "done" {
                    handshake.handle_frame(&frames[1]).unwrap();
                }
                let outcome = match handshake.handle_frame(frame) {
                    Ok(HandshakeStep::SendChallenge(_)) => "challenge".to_owned(),
                    Ok(HandshakeStep::Verified(_)) => "verified".to_owned(),
                    Err(error) => error.to_string(),
                };
                table += &format!("{state} + {}: {outcome}\n", frame.frame_type);
            }
        }
        let expected = "\
await register + Register: challenge
await register + Proof: Proof is not allowed here; expected Register
await register + Ping: Ping is not allowed here; expected Register
await register + Pong: Pong is not allowed here; expected Register
await proof + Register: Register is not allowed here; expected Proof
await proof + Proof: verified
await proof + Ping: Ping is not allowed here; expected Proof
await proof + Pong: Pong is not allowed here; expected Proof
done + Register: Register is not allowed here; expected nothing more of the registration
done + Proof: Proof is not allowed here; expected nothing more of the registration
done + Ping: Ping is not allowed here; expected nothing more of the registration
done + Pong: Pong is not allowed here; expected nothing more of the registration
";
        assert_eq!(table, expected);
    }
}
