//! Who may attach a session.

use super::messages::{Attach, Secret};
use crate::rendezvous::{RefusalCode, Refused, messages::Line};

/// Guards one session at the agent: knows its secret and the newest attempt.
#[derive(Clone, Debug)]
pub struct AttachGate {
    secret: Secret,
    newest_attempt: u32,
}

impl AttachGate {
    /// Begins a session with its first [`Attach`].
    ///
    /// # Errors
    /// What the client is to be told, when it means a session that was there before.
    pub fn begin(attach: &Attach) -> Result<Self, Refused> {
        if attach.resume {
            let text = "the agent does not have this session, or has it no more";
            return Err(refused(RefusalCode::NO_SUCH_SESSION, text));
        }
        Ok(Self { secret: attach.secret, newest_attempt: attach.attempt })
    }

    /// Whether this further [`Attach`] may take the session over. A refused one changes nothing.
    ///
    /// # Errors
    /// What the client is to be told.
    pub fn admit(&mut self, attach: &Attach) -> Result<(), Refused> {
        if attach.secret != self.secret {
            return Err(refused(RefusalCode::BAD_SECRET, "the secret is not the one of this session"));
        }
        if attach.attempt <= self.newest_attempt {
            let text = "a newer attach of this session came before this one";
            return Err(refused(RefusalCode::SUPERSEDED, text));
        }
        self.newest_attempt = attach.attempt;
        Ok(())
    }
}

fn refused(code: RefusalCode, text: &str) -> Refused {
    Refused { code, text: Line::new(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    fn attach(secret: u8, attempt: u32, resume: bool) -> Attach {
        let (session, secret) = (SessionId([1; 16]), Secret([secret; 16]));
        Attach { session, secret, attempt, resume, received: 0, limit: 0, first: None }
    }

    #[test]
    fn only_the_right_secret_and_a_newer_attempt_get_in() {
        let mut gate = AttachGate::begin(&attach(7, 0, false)).unwrap();
        let code = |gate: &mut AttachGate, attach| gate.admit(&attach).unwrap_err().code;
        assert_eq!(code(&mut gate, attach(8, 5, true)), RefusalCode::BAD_SECRET);
        assert_eq!(code(&mut gate, attach(7, 0, true)), RefusalCode::SUPERSEDED);
        assert_eq!(gate.admit(&attach(7, 3, true)), Ok(()));
        assert_eq!(code(&mut gate, attach(7, 2, true)), RefusalCode::SUPERSEDED, "a delayed one");
        assert_eq!(gate.admit(&attach(7, 4, false)), Ok(()), "a client that never heard of its first attach");
    }

    #[test]
    fn unknown_session_is_begun_only_by_a_client_that_has_lost_nothing() {
        let refused = AttachGate::begin(&attach(7, 2, true)).unwrap_err();
        assert_eq!(refused.code, RefusalCode::NO_SUCH_SESSION);
        assert!(AttachGate::begin(&attach(7, 2, false)).is_ok());
    }
}
