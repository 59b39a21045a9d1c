//! Who is let in: asked before anything is allocated for a peer.

use super::{
    bandwidth::{Bandwidth, Share},
    census::{Census, Full, Stay},
    rates::{Rates, TooOften},
    refusals::{Refusal, Refusals},
    settings::Limits,
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::{net::IpAddr, num::NonZeroU32, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

/// Connections per second to which it is explained why they are refused, where that costs a TLS handshake.
const EXPLANATIONS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// Of those, under way at the same time.
const MAX_EXPLANATIONS: usize = 32;
/// First packets of QUIC per second that are answered with a Retry; more are not answered at all.
const RETRIES_PER_SECOND: NonZeroU32 = NonZeroU32::new(10_000).expect("not zero");

/// The limits, and what there is now.
pub(crate) struct Gate {
    pub(crate) limits: Limits,
    pub(crate) refusals: Refusals,
    connections: Arc<Census>,
    /// Requests of trusted proxies, which share connections, by the address they speak for.
    forwarded: Arc<Census>,
    agents: Arc<Census>,
    sessions: Arc<Census>,
    waiting: Arc<Census>,
    /// By address, where that is the peer's own.
    rates: Rates,
    /// The same for first packets of QUIC, whose address may be anybody's: what a stranger sends in another's name must not
    /// use up what the other may send.
    unproven: Rates,
    handshakes: Arc<Semaphore>,
    retries: DefaultDirectRateLimiter,
    explanations: DefaultDirectRateLimiter,
    explaining: Arc<Semaphore>,
}

/// What to do with the first packet of a QUIC connection.
pub(crate) enum QuicVerdict {
    /// Go on, and hold this until the handshake is over.
    Accept(Handshake),
    /// Let the peer show first that its address is its own.
    Retry,
    /// Say no.
    Refuse,
    /// Say nothing.
    Ignore,
}

/// A QUIC connection from its first packet on.
pub(crate) struct Handshake {
    stay: Stay,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        let most = |limit: u32| if limit == 0 { u32::MAX } else { limit };
        let census = |all: u32, each: u32| Census::new(most(all), most(each));
        let permits = (most(limits.handshakes) as usize).min(Semaphore::MAX_PERMITS);
        let rates = || Rates::new(limits.handshake_rate, limits.handshake_rate_per_address);
        Self {
            refusals: Refusals::default(),
            connections: census(limits.connections, limits.connections_per_address),
            forwarded: census(0, limits.connections_per_address),
            agents: census(limits.agents, limits.agents_per_address),
            sessions: census(limits.sessions, 0),
            waiting: census(limits.waiting_clients, limits.waiting_clients_per_address),
            rates: rates(),
            unproven: rates(),
            handshakes: Arc::new(Semaphore::new(permits)),
            retries: RateLimiter::direct(Quota::per_second(RETRIES_PER_SECOND)),
            explanations: RateLimiter::direct(Quota::per_second(EXPLANATIONS_PER_SECOND)),
            explaining: Arc::new(Semaphore::new(MAX_EXPLANATIONS)),
            limits,
        }
    }

    /// Counts a refusal, and has it in the log for those who look for it.
    pub(crate) fn refused(&self, refusal: Refusal, peer: IpAddr) -> Refusal {
        self.refusals.count(refusal);
        debug!(%peer, limit = refusal.name(), "refused");
        refusal
    }

    /// A TCP connection. One of a trusted proxy is counted in all only, until it is known for whom it is.
    pub(crate) fn connect(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        let address = (!self.limits.proxies.are_at(peer)).then_some(peer);
        if let Some(address) = address {
            self.not_too_often(address)?;
        }
        self.connections.enter(address).map_err(|full| self.refused(of_connections(full), peer))
    }

    /// It has become known for whom a connection of a trusted proxy is.
    pub(crate) fn connect_for(&self, stay: &mut Stay, peer: IpAddr) -> Result<(), Refusal> {
        self.not_too_often(peer)?;
        stay.of(peer).map_err(|full| self.refused(of_connections(full), peer))
    }

    /// A request that a trusted proxy makes for somebody.
    pub(crate) fn request_for(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        self.not_too_often(peer)?;
        self.forwarded.enter(Some(peer)).map_err(|full| self.refused(of_connections(full), peer))
    }

    fn not_too_often(&self, peer: IpAddr) -> Result<(), Refusal> {
        self.rates.check(peer).map_err(|often| self.refused(of_rates(often), peer))
    }

    /// The first packet of a QUIC connection; `proven`: the peer has shown that its address is its own.
    pub(crate) fn quic(&self, peer: IpAddr, proven: bool) -> QuicVerdict {
        let under_way = (self.limits.handshakes as usize).saturating_sub(self.handshakes.available_permits());
        let crowded = self.limits.handshakes > 0 && under_way >= self.limits.retry_above as usize;
        if !proven && (crowded || self.limits.retry_above == 0 || self.unproven.check(peer).is_err()) {
            let (verdict, refusal) = match self.retries.check() {
                Ok(()) => (QuicVerdict::Retry, Refusal::QuicRetry),
                Err(_) => (QuicVerdict::Ignore, Refusal::QuicFlood),
            };
            self.refusals.count(refusal);
            return verdict;
        }
        if proven && self.not_too_often(peer).is_err() {
            return QuicVerdict::Refuse;
        }
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            self.refused(Refusal::Handshakes, peer);
            return QuicVerdict::Refuse;
        };
        // Connections that others may have begun in a peer's name do not count as the peer's.
        match self.connections.enter(proven.then_some(peer)) {
            Ok(stay) => QuicVerdict::Accept(Handshake { stay, _permit: permit }),
            Err(full) => {
                self.refused(of_connections(full), peer);
                QuicVerdict::Refuse
            }
        }
    }

    /// The handshake is over, which proves the address.
    pub(crate) fn connected(&self, handshake: Handshake, peer: IpAddr) -> Result<Stay, Refusal> {
        let mut stay = handshake.stay;
        if !stay.is_of(peer) {
            stay.of(peer).map_err(|full| self.refused(of_connections(full), peer))?;
        }
        Ok(stay)
    }

    /// An agent that has proved its key.
    pub(crate) fn agent(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        self.agents.enter(Some(peer)).map_err(|full| match full {
            Full::All => self.refused(Refusal::Agents, peer),
            Full::Address => self.refused(Refusal::AgentsOfAddress, peer),
        })
    }

    /// An agent on its next link, whose last one is not gone yet.
    pub(crate) fn agent_moves(&self, peer: IpAddr) -> Stay {
        self.agents.enter_anyway(peer)
    }

    /// A session.
    pub(crate) fn session(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        self.sessions.enter(None).map_err(|_| self.refused(Refusal::Sessions, peer))
    }

    /// A client that waits for an agent.
    pub(crate) fn wait(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        self.waiting.enter(Some(peer)).map_err(|full| match full {
            Full::All => self.refused(Refusal::WaitingClients, peer),
            Full::Address => self.refused(Refusal::WaitingClientsOfAddress, peer),
        })
    }

    /// Connections that there are now, TCP and QUIC.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.count()
    }

    /// Clients that wait now.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.count()
    }

    /// Sessions that one agent may have.
    pub(crate) fn sessions_per_agent(&self) -> u32 {
        match self.limits.sessions_per_agent {
            0 => super::MAX_SESSIONS_PER_AGENT,
            most => most.min(super::MAX_SESSIONS_PER_AGENT),
        }
    }

    /// What all sessions of an agent share.
    pub(crate) fn agents_bandwidth(&self) -> Option<Bandwidth> {
        Bandwidth::new(self.limits.agent_bytes_per_second)
    }

    /// What one session may use of it, and of its own.
    pub(crate) fn share<'a>(&self, agents: Option<&'a Bandwidth>) -> Share<'a> {
        Share::new(self.limits.session_bytes_per_second, agents)
    }

    /// Whether there is time to explain to one more peer why it is refused.
    pub(crate) fn may_explain(&self) -> Option<OwnedSemaphorePermit> {
        self.explanations.check().ok()?;
        self.explaining.clone().try_acquire_owned().ok()
    }
}

fn of_connections(full: Full) -> Refusal {
    match full {
        Full::All => Refusal::Connections,
        Full::Address => Refusal::ConnectionsOfAddress,
    }
}

fn of_rates(often: TooOften) -> Refusal {
    match often {
        TooOften::InAll(_) => Refusal::HandshakeRate,
        TooOften::OfAddress(_) => Refusal::HandshakeRateOfAddress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn accepted(verdict: QuicVerdict) -> Handshake {
        match verdict {
            QuicVerdict::Accept(handshake) => handshake,
            _ => panic!("not accepted"),
        }
    }

    #[test]
    fn quic_peers_show_their_address_when_it_is_crowded() {
        let gate = Gate::new(Limits { retry_above: 1, handshakes: 2, ..Limits::default() });
        let first = accepted(gate.quic(PEER, false));
        assert!(matches!(gate.quic(PEER, false), QuicVerdict::Retry));
        let _second = accepted(gate.quic(PEER, true));
        assert!(matches!(gate.quic(PEER, true), QuicVerdict::Refuse));
        assert_eq!((gate.refusals.of(Refusal::QuicRetry), gate.refusals.of(Refusal::Handshakes)), (1, 1));
        gate.connected(first, PEER).unwrap();
        accepted(gate.quic(PEER, true));
    }

    #[test]
    fn packets_in_a_peers_name_take_nothing_from_the_peer() {
        let limits =
            Limits { handshake_rate_per_address: 1, connections_per_address: 1, ..Limits::default() };
        let gate = Gate::new(limits);
        let forged: Vec<_> = (0..100).map(|_| gate.quic(PEER, false)).collect();
        assert!(matches!(forged.last(), Some(QuicVerdict::Retry)));
        let own = accepted(gate.quic(PEER, true));
        let _stay = gate.connected(own, PEER).unwrap();
        assert!(gate.connect(PEER).is_err(), "now it has its one");
    }

    #[test]
    fn trusted_proxies_are_not_limited_but_those_they_speak_for() {
        let proxies =
            super::super::Proxies { trusted: vec!["192.0.2.1/32".parse().unwrap()], ..Default::default() };
        let gate = Gate::new(Limits { connections_per_address: 1, proxies, ..Limits::default() });
        let mut stays: Vec<_> = (0..10).map(|_| gate.connect(PEER).unwrap()).collect();
        let client = IpAddr::from([198, 51, 100, 7]);
        gate.connect_for(&mut stays[0], client).unwrap();
        assert_eq!(gate.connect_for(&mut stays[1], client), Err(Refusal::ConnectionsOfAddress));
    }
}
