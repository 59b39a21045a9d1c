//! IDs that are reserved before any agent is here: for the bearer of a token, for a while.

use super::{Entry, Holder, IdTable};
use crate::{id::Id, rendezvous::token::Token};
use sha2::{Digest, Sha256};
use std::time::Instant;

/// What is kept of a token that an ID is reserved for: its SHA-256. A token is long and random, so this tells nothing of
/// it, nor does the time it takes to look one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of this token.
    pub fn of(token: &Token) -> Self {
        Self(Sha256::digest(token.secret()).into())
    }

    /// One that was written down.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be written down.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An ID that waits for the bearer of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The ID.
    pub id: Id,
    /// How long it waits.
    pub until: Instant,
}

/// Why an ID cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// An agent has it, or it is reserved already.
    #[error("the ID is taken")]
    Taken,
    /// The token serves another reservation already.
    #[error("the token is that of another reservation")]
    SecretTaken,
    /// As many IDs wait for their agents as may.
    #[error("too many IDs are reserved for agents that have not come")]
    TooMany,
    /// All IDs that may be held are held.
    #[error("this relay has no room for another agent")]
    Full,
}

impl IdTable {
    /// Keeps a free ID for the bearer of a token until then.
    ///
    /// # Errors
    /// [`ReserveError`].
    pub fn reserve(&mut self, id: Id, secret: SecretHash, until: Instant) -> Result<(), ReserveError> {
        if self.entries.contains_key(&id) {
            return Err(ReserveError::Taken);
        }
        if self.secrets.contains_key(&secret) {
            return Err(ReserveError::SecretTaken);
        }
        if self.promised >= self.max_promised {
            return Err(ReserveError::TooMany);
        }
        if self.entries.len() >= self.max_ids {
            return Err(ReserveError::Full);
        }
        self.secrets.insert(secret, id.clone());
        self.reservations.insert((until, id.clone()));
        let holder = Holder::ReservedUntil(until);
        self.entries.insert(id, Entry { host_key: None, secret: Some(secret), holder });
        self.promised += 1;
        self.check();
        Ok(())
    }

    /// Takes a reservation back that nobody has come for yet. Returns whether there was one.
    pub fn cancel(&mut self, id: &Id) -> bool {
        let until = match self.entries.get(id) {
            Some(Entry { host_key: None, holder: Holder::ReservedUntil(until), .. }) => *until,
            _ => return false,
        };
        self.reservations.remove(&(until, id.clone()));
        self.remove(id);
        self.check();
        true
    }

    /// The reservations that nobody has come for yet, by ID.
    pub fn promises(&self) -> impl Iterator<Item = Reservation> {
        self.entries.iter().filter_map(|(id, entry)| match entry.holder {
            Holder::ReservedUntil(until) if entry.is_promised() => {
                Some(Reservation { id: id.clone(), until })
            }
            _ => None,
        })
    }
}
