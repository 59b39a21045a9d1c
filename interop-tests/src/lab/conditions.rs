//! What a host's way to the internet does to packets, in numbers.

use super::{
    internet::Network,
    packet::{Packet, Refusal},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How much longer a packet takes that is overtaken. Longer than any burst, shorter than any retransmission timer.
const OVERTAKEN_BY: Duration = Duration::from_millis(5);
/// What Ethernet carries.
pub(super) const USUAL_MTU: u16 = 1500;
/// What a queue holds unless told otherwise: a fifth of a second at 5 Mbit/s, as in many a home router.
const USUAL_QUEUE_BYTES: u32 = 128 * 1024;

/// What happens to UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Udp {
    Passes,
    Dropped,
    Refused(Refusal),
}

/// What happens to packets that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLong {
    Reported,
    Swallowed,
}

/// The same in both directions.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) loss: f64,
    pub(super) overtaken: f64,
    pub(super) bits_per_second: Option<u32>,
    pub(super) queue_bytes: u32,
    pub(super) mtu: u16,
    pub(super) too_long: TooLong,
    pub(super) udp: Udp,
    pub(super) cut: bool,
    /// The networks from and to which nothing passes.
    pub(super) apart: BTreeSet<Network>,
}

impl Default for Conditions {
    /// As if it were not there.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            overtaken: 0.0,
            bits_per_second: None,
            queue_bytes: USUAL_QUEUE_BYTES,
            mtu: USUAL_MTU,
            too_long: TooLong::Reported,
            udp: Udp::Passes,
            cut: false,
            apart: BTreeSet::new(),
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is through at this time.
    Through(Instant),
    /// Nobody hears of it again.
    Lost,
    /// Its sender is told.
    Refused(Refusal),
}

/// One direction: what conditions cannot decide without a past.
#[derive(Debug)]
pub(super) struct Lane {
    random: SmallRng,
    /// When the last packet will have been put on the wire.
    busy_until: Option<Instant>,
    /// When the last packet that kept its place came, and when it will be through.
    last: Option<(Instant, Instant)>,
}

impl Lane {
    /// An idle one, whose chances follow from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), busy_until: None, last: None }
    }

    /// What becomes of a packet that comes at `now`.
    ///
    /// Packets keep their order whatever jitter and changes of the delay do; only [`Conditions::overtaken`] makes some
    /// late, so that a scenario gets disorder only when it asks for it.
    pub(super) fn decide(&mut self, conditions: &Conditions, packet: &Packet<'_>, now: Instant) -> Fate {
        if conditions.cut || self.happens(conditions.loss) {
            return Fate::Lost;
        }
        match conditions.udp {
            Udp::Dropped if packet.is_udp => return Fate::Lost,
            Udp::Refused(refusal) if packet.is_udp => return Fate::Refused(refusal),
            _ => {}
        }
        if packet.bytes.len() > usize::from(conditions.mtu) {
            // A router would cut a packet that may be cut; nothing here sends such ones on purpose.
            return match conditions.too_long {
                TooLong::Reported if packet.whole => Fate::Refused(Refusal::TooLong { mtu: conditions.mtu }),
                TooLong::Reported | TooLong::Swallowed => Fate::Lost,
            };
        }
        let Some(sent) = self.sent(conditions, packet.bytes.len(), now) else { return Fate::Lost };
        let through = sent + conditions.delay + conditions.jitter.mul_f64(self.random.random::<f64>());
        // One that was overtaken on its way here comes, by the clock, after packets that we get later.
        let before = self.last.filter(|(came, _)| *came <= now);
        let through = before.map_or(through, |(_, before)| before.max(through));
        if self.happens(conditions.overtaken) {
            return Fate::Through(through + OVERTAKEN_BY);
        }
        self.last = Some((now, through));
        Fate::Through(through)
    }

    /// When the last bit of a packet has left, behind what waits already. `None` when the queue is full.
    fn sent(&mut self, conditions: &Conditions, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = conditions.bits_per_second else {
            self.busy_until = None;
            return Some(now);
        };
        let takes = |bytes: f64| Duration::from_secs_f64(bytes * 8.0 / f64::from(rate));
        let start = self.busy_until.map_or(now, |busy_until| busy_until.max(now));
        if start - now > takes(f64::from(conditions.queue_bytes)) {
            return None;
        }
        // No packet is longer than 64 KiB.
        let sent = start + takes(f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)));
        self.busy_until = Some(sent);
        Some(sent)
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random::<f64>() < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn udp(bytes: usize) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(1, 2);
        let mut packet = Vec::new();
        builder.write(&mut packet, &vec![0; bytes - 28]).unwrap();
        packet
    }

    fn fates(conditions: &Conditions, packets: usize, now: Instant) -> Vec<Fate> {
        let (mut lane, bytes) = (Lane::new(1), udp(1000));
        let packet = Packet::read(&bytes).unwrap();
        (0..packets).map(|_| lane.decide(conditions, &packet, now)).collect()
    }

    #[test]
    fn packets_leave_at_the_rate_until_the_queue_is_full() {
        let now = Instant::now();
        let conditions =
            Conditions { bits_per_second: Some(8_000_000), queue_bytes: 10_000, ..Conditions::default() };
        let fates = fates(&conditions, 20, now);
        // A millisecond each; one on the wire and ten in the queue.
        for (number, fate) in (1..).zip(&fates[..11]) {
            assert_eq!(*fate, Fate::Through(now + Duration::from_millis(number)));
        }
        assert!(fates[11..].iter().all(|fate| *fate == Fate::Lost), "{fates:?}");
    }

    #[test]
    fn jitter_keeps_the_order_and_only_overtaking_breaks_it() {
        let now = Instant::now();
        let times = |conditions: &Conditions| -> Vec<Instant> {
            let through = |fate| match fate {
                Fate::Through(time) => time,
                other => panic!("{other:?}"),
            };
            fates(conditions, 1000, now).into_iter().map(through).collect()
        };
        let delay = Duration::from_millis(10);
        let jitter = Conditions { delay, jitter: delay, ..Conditions::default() };
        let kept = times(&jitter);
        assert!(kept.is_sorted() && kept[0] >= now + delay && kept[999] <= now + 2 * delay);
        assert!(kept[0] < kept[999], "jitter spreads");
        assert!(!times(&Conditions { overtaken: 0.1, ..jitter }).is_sorted());
    }

    #[test]
    fn share_of_loss_is_kept() {
        let lost = |loss| {
            let fates = fates(&Conditions { loss, ..Conditions::default() }, 10_000, Instant::now());
            fates.iter().filter(|fate| **fate == Fate::Lost).count()
        };
        assert_eq!(lost(0.0), 0);
        assert_eq!(lost(1.0), 10_000);
        let lost = lost(0.02);
        assert!((100..=300).contains(&lost), "{lost} of 10000 at 2 %");
    }

    #[test]
    fn same_seed_has_the_same_chances() {
        let (conditions, now) = (Conditions { loss: 0.5, ..Conditions::default() }, Instant::now());
        assert_eq!(fates(&conditions, 100, now), fates(&conditions, 100, now));
    }
}
