//! The agent's side of a registration, on the first stream of a link.

use crate::{job::ci::CiJob, platform::machine::host_name};
use converge_proto::{
    Frame, FrameType, HostKey, Id,
    frame::FrameError,
    rendezvous::{
        AgentInfo, Challenge, Message, RefusalCode, Refused, Register, Registered, Token,
        messages::{Line, Name},
        proof_over_challenge, proof_over_exporter,
    },
};
use converge_transport::{Link, Stream, StreamError};
use ssh_key::PrivateKey;
use std::time::Duration;

/// The relay must have answered by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Registers on a new link, and says what is known about the `job`. The `token` is what the relay may want to see. Returns the control stream and what the relay
/// granted.
///
/// # Errors
/// [`RegistrationError`]; the link is of no use then.
pub async fn register(
    link: &Link,
    host_key: &PrivateKey,
    wanted: Option<Id>,
    job: &CiJob,
    token: Option<Token>,
) -> Result<(Stream, Registered), RegistrationError> {
    let registering = async {
        let mut control = link.open_stream().await.map_err(StreamError::from)?;
        let proof = link.exporter().map(|exporter| proof_over_exporter(host_key, &exporter)).transpose()?;
        let public =
            HostKey::new(host_key.public_key()).map_err(|error| RegistrationError::Key(error.to_string()))?;
        let register = Register {
            wanted,
            host_key: public,
            proof,
            agent: about_this_agent(job),
            token,
            fell_back: link.fell_back(),
        };
        control.send.write_frame(&register.to_frame()).await?;
        let mut challenged = false;
        loop {
            let frame = control.recv.read_frame().await?.ok_or(RegistrationError::Ended)?;
            match frame.frame_type {
                FrameType::CHALLENGE if !challenged => {
                    challenged = true;
                    let proof = proof_over_challenge(host_key, &Challenge::from_frame(&frame)?)?;
                    control.send.write_frame(&proof.to_frame()).await?;
                }
                FrameType::REGISTERED => return Ok((control, Registered::from_frame(&frame)?)),
                FrameType::REFUSED => return Err(refusal(&frame)?),
                frame_type => {
                    return Err(FrameError::Unexpected {
                        frame_type,
                        expected: "Challenge, Registered or Refused",
                    }
                    .into());
                }
            }
        }
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, registering).await {
        Ok(result) => result,
        Err(_) => Err(RegistrationError::NoAnswer),
    }
}

fn refusal(frame: &Frame) -> Result<RegistrationError, FrameError> {
    let Refused { code, text } = Refused::from_frame(frame)?;
    Ok(RegistrationError::Refused { code, text })
}

fn about_this_agent(job: &CiJob) -> AgentInfo {
    job.describe(AgentInfo {
        software: Name::new(concat!("converge-agent/", env!("CARGO_PKG_VERSION"))),
        host: Some(Name::new(host_name())),
        platform: Some(Name::new(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ..AgentInfo::default()
    })
}

/// Why an agent is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The relay said no.
    #[error("the relay refuses this agent: {text} ({code})")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: Line,
    },
    /// The relay took too long.
    #[error("the relay does not answer the registration")]
    NoAnswer,
    /// The relay ended the stream without an answer.
    #[error("the relay ended the registration without an answer")]
    Ended,
    /// The stream broke, or the relay sent something senseless.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The host key cannot be used.
    #[error("the host key cannot be used: {0}")]
    Key(String),
}

impl RegistrationError {
    /// Whether trying again, without any change, may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.may_pass(),
            Self::NoAnswer | Self::Ended | Self::Stream(_) => true,
            Self::Key(_) => false,
        }
    }
}

impl From<FrameError> for RegistrationError {
    fn from(error: FrameError) -> Self {
        StreamError::from(error).into()
    }
}

impl From<ssh_key::Error> for RegistrationError {
    fn from(error: ssh_key::Error) -> Self {
        Self::Key(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_is_told_which_job_this_is() {
        let job = CiJob::default().with(Some("nightly"), Some("https://ci.example/7"));
        let info = about_this_agent(&job);
        assert!(info.software.as_str().starts_with("converge-agent/"));
        assert_eq!(info.job.unwrap().as_str(), "nightly");
        assert_eq!(info.job_url.unwrap().as_str(), "https://ci.example/7");
        assert_eq!((info.ci, info.host.is_some()), (None, true));
    }
}
