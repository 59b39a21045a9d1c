//! Which agent has which ID.
//!
//! On one relay the registry is memory, and the rules are those of [`IdTable`]; where several relays act as one it is etcd,
//! and the rules are the same.

pub mod etcd;

mod memory;

pub use etcd::EtcdRegistry;
pub use memory::MemoryRegistry;

use crate::access::Grant;
use crate::limits::{self, Bandwidth};
use converge_proto::{
    HostKey, Id, RelayNumber,
    rendezvous::{
        LinkNumber, Reassigned, SecretHash, VerifiedAgent,
        id_table::{Reservation, ReserveError},
    },
};
use converge_transport::Link;
use futures_util::future::BoxFuture;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

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
    /// It has been told that this relay goes away.
    pub(crate) leaving: CancellationToken,
}

impl Agent {
    /// When it was told to leave and has had a moment to go elsewhere. Sessions that can go on elsewhere are then let go:
    /// waiting for their end would only keep the relay from being back.
    pub(crate) async fn time_to_move(&self) {
        self.leaving.cancelled().await;
        tokio::time::sleep(limits::MOVE_TIME).await;
    }
}

/// Where an agent is.
#[derive(Clone, Debug)]
pub enum Place {
    /// At this relay.
    Here(Arc<Agent>),
    /// At another one of the cluster, or it was there last.
    At(Elsewhere),
}

/// A place at another relay. It is another one after the agent has moved, even if back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The relay.
    pub relay: RelayNumber,
    /// Which move it was.
    pub revision: i64,
}

impl Place {
    /// The agent, when it is at this relay.
    pub fn here(self) -> Option<Arc<Agent>> {
        match self {
            Self::Here(agent) => Some(agent),
            Self::At(_) => None,
        }
    }
}

/// Where agents are found.
pub trait Registry: Send + Sync + 'static {
    /// Gives an agent an ID by the rules of [`IdTable`]. The ID is the agent's until the registration is dropped.
    fn register(&self, agent: Arc<Agent>) -> BoxFuture<'_, Result<Registration, RegisterError>>;

    /// Where the agent is that has this ID now. Asks nobody.
    fn find(&self, id: &Id) -> Option<Place>;

    /// The relay at which the agent was that has this ID, where that relay has gone or is cut off. Asks nobody.
    fn left_behind(&self, id: &Id) -> Option<RelayNumber>;

    /// The key of the agent that has this ID now, wherever it is.
    fn host_key(&self, id: &Id) -> Option<HostKey>;

    /// Changes whenever an agent has appeared, here or elsewhere; look again then.
    fn appearances(&self) -> watch::Receiver<u64>;

    /// Whether new agents can be given an ID now.
    fn is_up(&self) -> bool {
        self.outage().is_none()
    }

    /// Why new agents cannot be given an ID now, when it is so.
    fn outage(&self) -> Option<String>;

    /// Every agent that is at this relay now.
    fn agents(&self) -> Vec<Arc<Agent>>;

    /// Keeps an ID, this one or a new one, for the bearer of a token that has not come yet.
    ///
    /// # Errors
    /// [`ReserveRefusal`].
    fn reserve(
        &self,
        id: Option<Id>,
        secret: SecretHash,
        time: Duration,
    ) -> BoxFuture<'_, Result<Reservation, ReserveRefusal>>;

    /// The ID that is reserved for this agent, by the token that it has brought.
    fn reserved_for(&self, agent: &VerifiedAgent) -> Option<Id>;

    /// Takes back what [`reserve`](Self::reserve) has kept, unless an agent has come for it. Returns whether it was
    /// there.
    ///
    /// # Errors
    /// [`Unavailable`].
    fn cancel<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<bool, Unavailable>>;

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
    /// Nobody can say now who has which ID.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why an ID cannot be reserved.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveRefusal {
    /// By the rules.
    #[error(transparent)]
    Rules(#[from] ReserveError),
    /// Nobody can say now who has which ID.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What keeps the IDs of the cluster is away. What is here goes on; nothing new is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this relay cannot ask its cluster who has which ID ({0}); try again in a moment")]
pub struct Unavailable(pub String);
