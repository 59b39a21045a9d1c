//! Who is let in: asked before anything is allocated for a peer.

use super::{
    bandwidth::{Bandwidth, Share},
    census::{Census, Full, Most, Stay},
    rates::{PerSecond, Rates, TooOften},
    refusals::{Refusal, Refusals},
    settings::Limits,
};
use crate::config::Live;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::{net::IpAddr, num::NonZeroU32, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::debug;

/// Connections per second to which it is explained why they are refused, where that costs a TLS handshake.
const EXPLANATIONS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// Of those, under way at the same time.
const MAX_EXPLANATIONS: usize = 32;
/// First packets of QUIC per second that are answered with a Retry; more are not answered at all.
pub const RETRIES_PER_SECOND: NonZeroU32 = NonZeroU32::new(10_000).expect("not zero");

/// What there is now, and whether there may be more. The limits are asked for each time, as the operator may change them.
pub(crate) struct Gate {
    live: watch::Receiver<Live>,
    pub(crate) refusals: Refusals,
    connections: Arc<Census>,
    /// Requests of trusted proxies, which share connections, by the address they speak for.
    forwarded: Arc<Census>,
    agents: Arc<Census>,
    sessions: Arc<Census>,
    waiting: Arc<Census>,
    watching: Arc<Census>,
    /// By address, where that is the peer's own.
    rates: Rates,
    /// The same for first packets of QUIC, whose address may be anybody's: what a stranger sends in another's name must not
    /// use up what the other may send.
    unproven: Rates,
    handshakes: Arc<Census>,
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
    _under_way: Stay,
}

impl Gate {
    pub(crate) fn new(live: watch::Receiver<Live>) -> Self {
        Self {
            live,
            refusals: Refusals::default(),
            connections: Arc::default(),
            forwarded: Arc::default(),
            agents: Arc::default(),
            sessions: Arc::default(),
            waiting: Arc::default(),
            watching: Arc::default(),
            rates: Rates::default(),
            unproven: Rates::default(),
            handshakes: Arc::default(),
            retries: RateLimiter::direct(Quota::per_second(RETRIES_PER_SECOND)),
            explanations: RateLimiter::direct(Quota::per_second(EXPLANATIONS_PER_SECOND)),
            explaining: Arc::new(Semaphore::new(MAX_EXPLANATIONS)),
        }
    }

    /// The limits as they are now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.live.borrow().limits.clone()
    }

    /// Counts a refusal, and has it in the log for those who look for it.
    pub(crate) fn refused(&self, refusal: Refusal, peer: IpAddr) -> Refusal {
        self.refusals.count(refusal);
        debug!(%peer, limit = refusal.name(), "refused");
        refusal
    }

    /// A TCP connection. One of a trusted proxy is counted in all only, until it is known for whom it is.
    pub(crate) fn connect(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        let limits = self.limits();
        let address = (!limits.proxies.are_at(peer)).then_some(peer);
        if let Some(address) = address {
            self.not_too_often(address, &limits)?;
        }
        let entered = self.connections.enter(address, of_connections(&limits));
        entered.map_err(|full| self.refused(too_many_connections(full), peer))
    }

    /// It has become known for whom a connection of a trusted proxy is.
    pub(crate) fn connect_for(&self, stay: &mut Stay, peer: IpAddr) -> Result<(), Refusal> {
        let limits = self.limits();
        self.not_too_often(peer, &limits)?;
        stay.of(peer, of_connections(&limits)).map_err(|full| self.refused(too_many_connections(full), peer))
    }

    /// A request that a trusted proxy makes for somebody.
    pub(crate) fn request_for(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        let limits = self.limits();
        self.not_too_often(peer, &limits)?;
        let most = Most { all: 0, ..of_connections(&limits) };
        self.forwarded.enter(Some(peer), most).map_err(|full| self.refused(too_many_connections(full), peer))
    }

    fn not_too_often(&self, peer: IpAddr, limits: &Limits) -> Result<(), Refusal> {
        self.rates.check(peer, rates_of(limits)).map_err(|often| self.refused(too_often(often), peer))
    }

    /// The first packet of a QUIC connection; `proven`: the peer has shown that its address is its own.
    pub(crate) fn quic(&self, peer: IpAddr, proven: bool) -> QuicVerdict {
        let limits = self.limits();
        let is_crowded = self.handshakes.count() >= limits.retry_above as usize;
        if !proven && (is_crowded || self.unproven.check(peer, rates_of(&limits)).is_err()) {
            let (verdict, refusal) = match self.retries.check() {
                Ok(()) => (QuicVerdict::Retry, Refusal::QuicRetry),
                Err(_) => (QuicVerdict::Ignore, Refusal::QuicFlood),
            };
            self.refusals.count(refusal);
            return verdict;
        }
        if proven && self.not_too_often(peer, &limits).is_err() {
            return QuicVerdict::Refuse;
        }
        let Ok(under_way) = self.handshakes.enter(None, Most { all: limits.handshakes, each: 0 }) else {
            self.refused(Refusal::Handshakes, peer);
            return QuicVerdict::Refuse;
        };
        // Connections that others may have begun in a peer's name do not count as the peer's.
        match self.connections.enter(proven.then_some(peer), of_connections(&limits)) {
            Ok(stay) => QuicVerdict::Accept(Handshake { stay, _under_way: under_way }),
            Err(full) => {
                self.refused(too_many_connections(full), peer);
                QuicVerdict::Refuse
            }
        }
    }

    /// The handshake is over, which proves the address.
    pub(crate) fn connected(&self, handshake: Handshake, peer: IpAddr) -> Result<Stay, Refusal> {
        let mut stay = handshake.stay;
        if !stay.is_of(peer) {
            let known = stay.of(peer, of_connections(&self.limits()));
            known.map_err(|full| self.refused(too_many_connections(full), peer))?;
        }
        Ok(stay)
    }

    /// An agent that has proved its key.
    pub(crate) fn agent(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        let limits = self.limits();
        let most = Most { all: limits.agents, each: limits.agents_per_address };
        self.agents.enter(Some(peer), most).map_err(|full| match full {
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
        let most = Most { all: self.limits().sessions, each: 0 };
        self.sessions.enter(None, most).map_err(|_| self.refused(Refusal::Sessions, peer))
    }

    /// A client that waits for an agent.
    pub(crate) fn wait(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        let limits = self.limits();
        let most = Most { all: limits.waiting_clients, each: limits.waiting_clients_per_address };
        self.waiting.enter(Some(peer), most).map_err(|full| match full {
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

    /// A browser that watches the page of sessions live.
    pub(crate) fn watch(&self, peer: IpAddr) -> Result<Stay, Refusal> {
        let limits = self.limits();
        let most = Most { all: limits.watching_browsers, each: limits.watching_browsers_per_address };
        self.watching.enter(Some(peer), most).map_err(|full| match full {
            Full::All => self.refused(Refusal::WatchingBrowsers, peer),
            Full::Address => self.refused(Refusal::WatchingBrowsersOfAddress, peer),
        })
    }

    /// Sessions that an agent may have that registers now.
    pub(crate) fn sessions_per_agent(&self) -> u32 {
        match self.limits().sessions_per_agent {
            0 => super::MAX_SESSIONS_PER_AGENT,
            most => most.min(super::MAX_SESSIONS_PER_AGENT),
        }
    }

    /// What all sessions share of an agent that registers now.
    pub(crate) fn agents_bandwidth(&self) -> Option<Bandwidth> {
        Bandwidth::new(self.limits().agent_bytes_per_second)
    }

    /// What a session that begins now may use of it, and of its own.
    pub(crate) fn share<'a>(&self, agents: Option<&'a Bandwidth>) -> Share<'a> {
        Share::new(self.limits().session_bytes_per_second, agents)
    }

    /// Whether there is time to explain to one more peer why it is refused.
    pub(crate) fn may_explain(&self) -> Option<OwnedSemaphorePermit> {
        self.explanations.check().ok()?;
        self.explaining.clone().try_acquire_owned().ok()
    }
}

fn of_connections(limits: &Limits) -> Most {
    Most { all: limits.connections, each: limits.connections_per_address }
}

fn rates_of(limits: &Limits) -> PerSecond {
    PerSecond { all: limits.handshake_rate, each: limits.handshake_rate_per_address }
}

fn too_many_connections(full: Full) -> Refusal {
    match full {
        Full::All => Refusal::Connections,
        Full::Address => Refusal::ConnectionsOfAddress,
    }
}

fn too_often(often: TooOften) -> Refusal {
    match often {
        TooOften::InAll(_) => Refusal::HandshakeRate,
        TooOften::OfAddress(_) => Refusal::HandshakeRateOfAddress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reload;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn live(limits: Limits) -> Live {
        Live { limits: Arc::new(limits), ..Live::default() }
    }

    fn gate(limits: Limits) -> Gate {
        Gate::new(Reload::new(live(limits)).1)
    }

    fn accepted(verdict: QuicVerdict) -> Handshake {
        match verdict {
            QuicVerdict::Accept(handshake) => handshake,
            _ => panic!("not accepted"),
        }
    }

    #[test]
    fn quic_peers_show_their_address_when_it_is_crowded() {
        let gate = gate(Limits { retry_above: 1, handshakes: 2, ..Limits::default() });
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
        let gate = gate(limits);
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
        let gate = gate(Limits { connections_per_address: 1, proxies, ..Limits::default() });
        let mut stays: Vec<_> = (0..10).map(|_| gate.connect(PEER).unwrap()).collect();
        let client = IpAddr::from([198, 51, 100, 7]);
        gate.connect_for(&mut stays[0], client).unwrap();
        assert_eq!(gate.connect_for(&mut stays[1], client), Err(Refusal::ConnectionsOfAddress));
    }

    #[test]
    fn other_limits_hold_for_the_next_one_and_those_that_are_here_stay() {
        let (reload, receiver) = Reload::new(live(Limits { agents_per_address: 2, ..Limits::default() }));
        let gate = Gate::new(receiver);
        let _agents = [gate.agent(PEER).unwrap(), gate.agent(PEER).unwrap()];
        assert_eq!(gate.agent(PEER).unwrap_err(), Refusal::AgentsOfAddress);
        reload.apply(live(Limits { agents: 1, agents_per_address: 0, ..Limits::default() }));
        assert_eq!(gate.agent(PEER).unwrap_err(), Refusal::Agents);
        reload.apply(live(Limits { agents: 0, handshakes: 1, retry_above: 2, ..Limits::default() }));
        gate.agent(PEER).unwrap();
        let _one = accepted(gate.quic(PEER, false));
        assert!(matches!(gate.quic(PEER, false), QuicVerdict::Refuse));
        reload.apply(live(Limits { handshakes: 0, retry_above: 1, ..Limits::default() }));
        assert!(matches!(gate.quic(PEER, false), QuicVerdict::Retry), "also where their number has no limit");
        accepted(gate.quic(PEER, true));
        reload.apply(live(Limits { handshake_rate_per_address: 1, ..Limits::default() }));
        let refused = (0..20).filter_map(|_| gate.connect(PEER).err());
        assert_eq!(refused.last(), Some(Refusal::HandshakeRateOfAddress));
    }
}
