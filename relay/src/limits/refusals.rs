//! What was refused for the sake of a limit, and how often.

use converge_proto::rendezvous::{RefusalCode, Refused, messages::Line};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

macro_rules! refusals {
    ($($variant:ident $name:literal $words:literal),+ $(,)?) => {
        /// Which limit a peer met.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $(#[doc = $words] $variant,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in metrics and logs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the peer is told: what happened, and what to do.
            pub fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)+ }
            }
        }
    };
}

refusals! {
    Connections "connections"
        "this relay has as many connections as it may have; try again in a minute",
    ConnectionsOfAddress "connections_of_address"
        "your address has as many connections to this relay as it may have; end some, or ask the operator for more",
    Handshakes "handshakes"
        "too many connections to this relay begin at the same time; try again in a moment",
    HandshakeRate "handshake_rate"
        "too many connections to this relay begin; try again in a moment",
    HandshakeRateOfAddress "handshake_rate_of_address"
        "too many connections begin from your address; wait a few seconds and try again",
    QuicRetry "quic_retry"
        "the peer was asked to show that its address is its own",
    QuicFlood "quic_flood"
        "there are too many first packets to answer them all",
    Silent "silent"
        "nothing was said in time",
    NoProxyHeader "no_proxy_header"
        "a trusted proxy sent no PROXY protocol header, or one that makes no sense",
    Agents "agents"
        "this relay has no room for another agent; try again later, or use another relay",
    AgentsOfAddress "agents_of_address"
        "your address has as many agents on this relay as it may have; end some, or ask the operator for more",
    Sessions "sessions"
        "this relay has as many sessions as it may have; try again later",
    SessionsOfAgent "sessions_of_agent"
        "the agent has as many sessions as it may have; end one and try again",
    WaitingClients "waiting_clients"
        "too many clients are waiting on this relay; try again later",
    WaitingClientsOfAddress "waiting_clients_of_address"
        "too many clients from your address are waiting; end some and try again",
    WatchingBrowsers "watching_browsers"
        "too many browsers watch this page live; reload it to see what is new",
    WatchingBrowsersOfAddress "watching_browsers_of_address"
        "too many browsers at your address watch this page live; close some, or reload it to see what is new",
    Body "body"
        "the body of the request is larger than this relay takes; send less at a time",
    SlowRequest "slow_request"
        "the request took too long; try again",
}

impl Refusal {
    /// As a frame.
    pub(crate) fn refused(self) -> Refused {
        Refused { code: RefusalCode::LIMIT, text: Line::new(self.words()) }
    }

    /// When it is worth trying again.
    pub fn retry_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::Handshakes | Self::HandshakeRate | Self::HandshakeRateOfAddress | Self::SlowRequest => 5,
            Self::WatchingBrowsers | Self::WatchingBrowsersOfAddress => 30,
            _ => 60,
        })
    }

    /// Whether the peer has caused it, so that others need not meet it.
    pub fn is_peers_own(self) -> bool {
        matches!(
            self,
            Self::ConnectionsOfAddress
                | Self::HandshakeRateOfAddress
                | Self::AgentsOfAddress
                | Self::WaitingClientsOfAddress
                | Self::WatchingBrowsersOfAddress
        )
    }
}

/// How often each limit was met since the relay began.
#[derive(Debug)]
pub struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Refusal::ALL.len()])
    }
}

impl Refusals {
    /// One more.
    pub fn count(&self, refusal: Refusal) {
        if let Some(counter) = self.0.get(refusal as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0.get(refusal as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All of them, for whoever exports them.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.iter().map(|refusal| (*refusal, self.of(*refusal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_has_its_counter_its_name_and_words_that_fit_a_frame() {
        let refusals = Refusals::default();
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, index);
            refusals.count(*refusal);
            assert_eq!(Line::new(refusal.words()).as_str(), refusal.words());
        }
        assert!(refusals.iter().all(|(_, count)| count == 1));
        let names: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
