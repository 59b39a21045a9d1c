//! Which relay is dialed first, and which address of a name: the rules, without a socket.
//!
//! Load spreads because the order is drawn anew for each dial. What is known comes before chance: the relay that worked
//! last goes first, so that who loses a link for a moment is back where the other end still is, and one that has just
//! said that it stops, or that has just failed, goes last. Last, never out: it may be the only one.

use super::race;
use converge_proto::{RelayUrl, RelayUrls};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a relay or an address goes last: long enough for a restart, and short enough that the others do not keep all
/// the load.
pub const AWAY_FOR: Duration = Duration::from_secs(30);
/// How many of them are remembered; the oldest goes first. Every relay of a list with every address that is tried.
const MAX_AWAY: usize = 80;

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPlace {
    /// The relay, as it was dialed.
    pub relay: RelayUrl,
    /// Its address; none behind a proxy, which alone knows it.
    pub address: Option<SocketAddr>,
}

impl From<RelayUrl> for RelayPlace {
    fn from(relay: RelayUrl) -> Self {
        Self { relay, address: None }
    }
}

/// What the dials of a process, or of one session, know of relays. It ends with them.
pub struct RelayMemory(Mutex<State>);

struct State {
    known: Known,
    random: StdRng,
}

impl RelayMemory {
    /// Knows nothing, and draws orders from this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(State { known: Known::default(), random: StdRng::seed_from_u64(seed) }))
    }

    /// This place works, and goes first from now on.
    pub fn prefer(&self, place: &RelayPlace) {
        self.state().known.prefer(place);
    }

    /// This place stops, has no room, or does not know what it should: it goes last for half a minute.
    pub fn leave(&self, place: &RelayPlace) {
        let mut state = self.state();
        state.known.leave_relay(&place.relay, Instant::now());
        if let Some(address) = place.address {
            state.known.leave_address(address, Instant::now());
        }
    }

    /// This relay cannot be dialed, whichever of its addresses was at fault.
    pub(super) fn leave_relay(&self, relay: &RelayUrl) {
        self.state().known.leave_relay(relay, Instant::now());
    }

    /// Nobody answers at this address as a relay should.
    pub(super) fn leave_address(&self, address: SocketAddr) {
        self.state().known.leave_address(address, Instant::now());
    }

    /// The order in which to dial.
    pub(super) fn relays<'a>(&self, given: &'a RelayUrls) -> Vec<&'a RelayUrl> {
        let State { known, random } = &mut *self.state();
        known.relays(given, Instant::now(), random)
    }

    /// The order in which to try the addresses of one name; not more than `limit`.
    pub(super) fn addresses(&self, found: Vec<SocketAddr>, limit: usize) -> Vec<SocketAddr> {
        let State { known, random } = &mut *self.state();
        known.addresses(found, limit, Instant::now(), random)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RelayMemory {
    fn default() -> Self {
        Self::seeded(rand::random())
    }
}

impl fmt::Debug for RelayMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RelayMemory").field(&self.state().known).finish()
    }
}

/// What is known, without a clock and without chance.
#[derive(Debug, Default)]
struct Known {
    /// Where the last link that worked leads.
    best: Option<RelayPlace>,
    /// Who goes last, and since when; the oldest first.
    away: Vec<(Whom, Instant)>,
}

#[derive(Clone, Debug)]
enum Whom {
    Relay(RelayUrl),
    Address(SocketAddr),
}

impl Whom {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Relay(one), Self::Relay(other)) => one.is_same_relay(other),
            (Self::Address(one), Self::Address(other)) => one == other,
            _ => false,
        }
    }
}

/// A place in the order. Those of one rank are in an order of chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Best,
    Any,
    /// The longer ago, the sooner.
    Away(Instant),
}

impl Known {
    fn prefer(&mut self, place: &RelayPlace) {
        self.back(&Whom::Relay(place.relay.clone()));
        if let Some(address) = place.address {
            self.back(&Whom::Address(address));
        }
        self.best = Some(place.clone());
    }

    fn leave_relay(&mut self, relay: &RelayUrl, now: Instant) {
        self.best.take_if(|best| best.relay.is_same_relay(relay));
        self.away(Whom::Relay(relay.clone()), now);
    }

    fn leave_address(&mut self, address: SocketAddr, now: Instant) {
        if let Some(best) = &mut self.best {
            best.address.take_if(|best| *best == address);
        }
        self.away(Whom::Address(address), now);
    }

    fn away(&mut self, whom: Whom, now: Instant) {
        self.back(&whom);
        self.away.retain(|(_, since)| is_recent(*since, now));
        let too_many = (self.away.len() + 1).saturating_sub(MAX_AWAY);
        self.away.drain(..too_many);
        self.away.push((whom, now));
    }

    fn back(&mut self, whom: &Whom) {
        self.away.retain(|(known, _)| !known.is_same(whom));
    }

    fn rank(&self, whom: &Whom, is_best: bool, now: Instant) -> Rank {
        match self.away.iter().find(|(known, _)| known.is_same(whom)) {
            Some((_, since)) if is_recent(*since, now) => Rank::Away(*since),
            _ if is_best => Rank::Best,
            _ => Rank::Any,
        }
    }

    fn relays<'a>(&self, given: &'a RelayUrls, now: Instant, random: &mut impl Rng) -> Vec<&'a RelayUrl> {
        let mut order: Vec<_> = given.iter().collect();
        order.shuffle(random);
        order.sort_by_key(|relay| {
            let is_best = self.best.as_ref().is_some_and(|best| best.relay.is_same_relay(relay));
            self.rank(&Whom::Relay((*relay).clone()), is_best, now)
        });
        order
    }

    /// The families take turns, beginning with the one that the system prefers; those that are away come after all
    /// others, whatever their family.
    fn addresses(
        &self,
        found: Vec<SocketAddr>,
        limit: usize,
        now: Instant,
        random: &mut impl Rng,
    ) -> Vec<SocketAddr> {
        let first_is_ipv6 = found.first().is_some_and(SocketAddr::is_ipv6);
        let best = self.best.as_ref().and_then(|best| best.address);
        let rank = |address: &SocketAddr| self.rank(&Whom::Address(*address), best == Some(*address), now);
        let mut order = found;
        order.shuffle(random);
        // The families apart, so that the first one is still the first.
        order.sort_by_key(|address| (address.is_ipv6() != first_is_ipv6, rank(address)));
        let (away, here): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|address| matches!(rank(address), Rank::Away(_)));
        let best = here.iter().copied().filter(|address| rank(address) == Rank::Best).collect::<Vec<_>>();
        let here = best.into_iter().chain(here);
        let mut order = race::interleaved(here, limit);
        order.extend(race::interleaved(away.into_iter(), limit - order.len()));
        order
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < AWAY_FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn given() -> RelayUrls {
        "https://a,https://b,https://c,https://d".parse().unwrap()
    }

    fn url(host: &str) -> RelayUrl {
        format!("https://{host}").parse().unwrap()
    }

    fn place(host: &str) -> RelayPlace {
        url(host).into()
    }

    /// The hosts in the order for this seed, as one word.
    fn order(known: &Known, now: Instant, seed: u64) -> String {
        let mut random = StdRng::seed_from_u64(seed);
        let given = given();
        known.relays(&given, now, &mut random).into_iter().map(RelayUrl::host).collect()
    }

    /// Every order that comes up.
    fn orders(known: &Known, now: Instant) -> BTreeSet<String> {
        (0..500).map(|seed| order(known, now, seed)).collect()
    }

    #[test]
    fn without_knowledge_every_order_comes_up_and_a_seed_decides_which() {
        let (known, now) = (Known::default(), Instant::now());
        assert_eq!(orders(&known, now).len(), 24);
        assert_eq!(order(&known, now, 7), order(&known, now, 7));
    }

    #[test]
    fn what_worked_last_is_first_and_the_rest_is_chance() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.prefer(&place("c"));
        let orders = orders(&known, now);
        assert_eq!(orders.len(), 6);
        assert!(orders.iter().all(|order| order.starts_with('c')), "{orders:?}");
    }

    #[test]
    fn what_stops_is_last_for_half_a_minute_and_never_out() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.prefer(&place("a"));
        known.leave_relay(&url("a"), now);
        known.leave_relay(&url("c"), now + Duration::from_secs(10));
        for (seconds, ends) in [(10, "ac"), (29, "ac"), (30, "c"), (39, "c")] {
            let orders = orders(&known, now + Duration::from_secs(seconds));
            assert!(orders.iter().all(|order| order.ends_with(ends)), "{seconds}: {orders:?}");
            assert!(orders.iter().all(|order| order.len() == 4));
        }
        // Having been told to leave, it is not the preferred one again by itself.
        assert_eq!(orders(&known, now + Duration::from_secs(40)).len(), 24);
    }

    #[test]
    fn relay_that_is_pointed_to_is_first_even_if_it_had_failed() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.leave_relay(&url("b"), now);
        known.leave_relay(&url("a"), now);
        known.prefer(&place("b"));
        let orders = orders(&known, now);
        assert!(orders.iter().all(|order| order.starts_with('b') && order.ends_with('a')), "{orders:?}");
    }

    #[test]
    fn all_that_have_failed_are_tried_the_longest_ago_first() {
        let (mut known, now) = (Known::default(), Instant::now());
        for (second, host) in ["c", "a", "d", "b"].iter().enumerate() {
            known.leave_relay(&url(host), now + Duration::from_secs(second as u64));
        }
        assert_eq!(orders(&known, now + Duration::from_secs(4)).into_iter().collect::<Vec<_>>(), ["cadb"]);
    }

    #[test]
    fn carriers_do_not_make_another_relay() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.leave_relay(&"wss://a".parse().unwrap(), now);
        assert!(orders(&known, now).iter().all(|order| order.ends_with('a')));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut known, now) = (Known::default(), Instant::now());
        for port in 0..1000 {
            known.leave_address(([127, 0, 0, 1], port).into(), now);
        }
        assert_eq!(known.away.len(), MAX_AWAY);
        known.leave_address(([127, 0, 0, 1], 1).into(), now + AWAY_FOR);
        assert_eq!(known.away.len(), 1, "what is over is forgotten");
    }

    fn addresses_of(hosts: &[&str]) -> Vec<SocketAddr> {
        hosts.iter().map(|host| SocketAddr::new(host.parse().unwrap(), 1)).collect()
    }

    /// The last digits of every order of these addresses that comes up.
    fn address_orders(known: &Known, found: &[&str], limit: usize, now: Instant) -> BTreeSet<String> {
        (0..500)
            .map(|seed| {
                let mut random = StdRng::seed_from_u64(seed);
                let order = known.addresses(addresses_of(found), limit, now, &mut random);
                order.iter().filter_map(|address| address.ip().to_string().pop()).collect()
            })
            .collect()
    }

    #[test]
    fn addresses_of_a_family_are_in_an_order_of_chance_and_families_take_turns() {
        let (known, now) = (Known::default(), Instant::now());
        let found = ["::1", "::2", "::3", "10.0.0.7", "10.0.0.8", "10.0.0.9"];
        let orders = address_orders(&known, &found, 4, now);
        assert_eq!(orders.len(), 6 * 6, "two of three of each, in any order: {orders:?}");
        for order in &orders {
            let is_ipv6: Vec<_> = order.chars().map(|digit| digit < '7').collect();
            assert_eq!(is_ipv6, [true, false, true, false], "{order}");
        }
        assert_eq!(address_orders(&known, &["10.0.0.7"], 4, now).into_iter().collect::<Vec<_>>(), ["7"]);
        assert_eq!(address_orders(&known, &[], 4, now).into_iter().collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn address_that_worked_is_first_and_one_that_failed_last() {
        let (mut known, now) = (Known::default(), Instant::now());
        let [best, away] = ["10.0.0.8", "::1"].map(|host| addresses_of(&[host])[0]);
        known.prefer(&RelayPlace { relay: url("a"), address: Some(best) });
        known.leave_address(away, now);
        let found = ["::1", "::2", "10.0.0.7", "10.0.0.8"];
        let orders = address_orders(&known, &found, 4, now);
        assert_eq!(orders.into_iter().collect::<Vec<_>>(), ["8271"]);
        let later = address_orders(&known, &found, 4, now + AWAY_FOR);
        assert_eq!(later.into_iter().collect::<Vec<_>>(), ["8172", "8271"]);
        known.leave_address(best, now + AWAY_FOR);
        let orders = address_orders(&known, &found, 4, now + AWAY_FOR);
        assert_eq!(orders.into_iter().collect::<Vec<_>>(), ["1728", "2718"]);
    }
}
