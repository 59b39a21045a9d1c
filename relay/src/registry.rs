//! Which agent has which ID.
//!
//! The trait is the seam for several relays; on one relay the registry is memory, and the rules are those of
//! [`IdTable`].

mod memory;

pub use memory::MemoryRegistry;

use crate::access::Grant;
use crate::limits::Bandwidth;
use converge_proto::{
    Id,
    rendezvous::{
        LinkNumber, Reassigned, SecretHash, VerifiedAgent,
        id_table::{Reservation, ReserveError},
    },
};
use converge_transport::Link;
use futures_util::future::BoxFuture;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, watch};

#[cfg(doc)]
use converge_proto::rendezvous::IdTable;

/// A registered agent: whoever holds this can open streams to it.
#[derive(Debug)]
pub struct Agent {
    /// The relay's number for the link.
    pub number: LinkNumber,
    /// The link.
    pub link: Link,
    /// Its key, and what it says about itself.
    pub verified: VerifiedAgent,
    /// What it was let in by; the IDs that are made up for it are of those that it may have.
    pub grant: Grant,
    /// One permit per session it may still have.
    pub sessions: Semaphore,
    /// What its sessions share.
    pub(crate) bandwidth: Option<Bandwidth>,
}

/// Where agents are found.
pub trait Registry: Send + Sync + 'static {
    /// Gives an agent an ID by the rules of [`IdTable`]. The ID is the agent's until the registration is dropped.
    fn register(&self, agent: Arc<Agent>) -> BoxFuture<'_, Result<Registration, RegisterError>>;

    /// The agent that has this ID now.
    fn find(&self, id: &Id) -> Option<Arc<Agent>>;

    /// Changes whenever an agent has appeared; look again then.
    fn appearances(&self) -> watch::Receiver<u64>;

    /// Every agent that is here now.
    fn agents(&self) -> Vec<Arc<Agent>>;

    /// Keeps an ID, this one or a new one, for the bearer of a token that has not come yet.
    ///
    /// # Errors
    /// [`ReserveError`].
    fn reserve(
        &self,
        id: Option<Id>,
        secret: SecretHash,
        time: Duration,
    ) -> BoxFuture<'_, Result<Reservation, ReserveError>>;

    /// The ID that is reserved for this agent, by the token that it has brought.
    fn reserved_for(&self, agent: &VerifiedAgent) -> Option<Id>;

    /// Takes back what [`reserve`](Self::reserve) has kept, unless an agent has come for it. Returns whether it was
    /// there.
    fn cancel(&self, id: &Id) -> bool;

    /// What is reserved for agents that have not come yet, by ID.
    fn reservations(&self) -> Vec<Reservation>;
}

/// An agent's hold on its ID. When dropped, the ID stays reserved for the agent's key for a while.
pub struct Registration {
    /// The ID.
    pub id: Id,
    /// Why it is not the wanted one.
    pub reassigned: Option<Reassigned>,
    end: Option<EndRegistration>,
}

/// Called once at the end, with whether the ID is free at once (the agent said goodbye).
type EndRegistration = Box<dyn FnOnce(Ending) + Send>;

/// How an agent went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The link was lost: the ID stays reserved.
    Lost,
    /// The agent said goodbye: the ID is free.
    Goodbye,
}

impl Registration {
    /// A registration whose end is told to `end`.
    pub fn new(id: Id, reassigned: Option<Reassigned>, end: impl FnOnce(Ending) + Send + 'static) -> Self {
        Self { id, reassigned, end: Some(Box::new(end)) }
    }

    /// The agent said goodbye, so its ID need not be kept for it.
    pub fn give_up(mut self) {
        self.finish(Ending::Goodbye);
    }

    fn finish(&mut self, ending: Ending) {
        if let Some(end) = self.end.take() {
            end(ending);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.finish(Ending::Lost);
    }
}

/// Why an agent cannot be registered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// There is no room for another agent.
    #[error("this relay has no room for another agent; try again later")]
    Full,
    /// Its token is for one ID only.
    #[error("the ID {0}, the only one that the token is for, is another agent's")]
    Held(Id),
}
