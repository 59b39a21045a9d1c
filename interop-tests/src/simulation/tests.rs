use super::*;
use converge_relay::limits::{BURST_SECONDS, Limits};

/// The sizes that do not take long in a debug build.
const SIZES: [(u32, u16); 2] = [(10_000, 3), (100_000, 5)];

fn settings() -> impl Iterator<Item = Setting> {
    SIZES.into_iter().flat_map(|(agents, relays)| {
        [Notice::Told, Notice::Silence].map(|notice| Setting { notice, ..Setting::new(agents, relays) })
    })
}

#[test]
fn storms_are_bounded() {
    let limits = Limits::default();
    // What may begin in a second after a quiet time, of those who have proved their address and of those who have not.
    let burst = limits.handshake_rate * (BURST_SECONDS + 1);
    for setting in settings() {
        let report = setting.run();
        assert_eq!(report.back, report.dialers, "{setting:?}: {report}");
        let last = report.back_after[2].unwrap();
        // Nobody registers faster than etcd writes.
        let write_time = Duration::from_secs(1) * setting.agents.div_ceil(setting.relays.into())
            / setting.etcd_writes_per_second;
        let noticing = Watch::IDLE + Watch::SUSPICION;
        assert!(last >= write_time.min(noticing), "{setting:?}: {report}");
        assert!(last <= noticing + write_time + Backoff::LONGEST, "{setting:?}: {report}");
        assert!(report.dials_each.0 <= 3.0 && report.dials_each.1 <= 8, "{setting:?}: {report}");
        assert!(report.handshakes_each <= 3.0, "{setting:?}: {report}");
        assert!(report.most_queued <= limits.handshakes + burst, "{setting:?}: {report}");
        assert!(report.longest_wait < Duration::from_secs(3), "{setting:?}: {report}");
        let (writes, _, waiting) = report.etcd_writes;
        assert_eq!(writes, u64::from(setting.agents.div_ceil(setting.relays.into())), "one each: {report}");
        let at_once = u32::try_from(MAX_CLAIMS).unwrap() * u32::from(setting.relays - 1);
        assert!(waiting <= at_once, "{setting:?}: {report}");
    }
}

#[test]
fn same_seed_is_the_same_and_another_is_another() {
    for setting in settings() {
        let report = setting.run();
        assert_eq!(setting.run(), report);
        assert_ne!(Setting { seed: 2, ..setting }.run(), report);
    }
}

#[test]
fn slow_etcd_makes_it_slow_and_no_more() {
    let setting = Setting { etcd_writes_per_second: 500, ..Setting::new(100_000, 5) };
    let report = setting.run();
    assert_eq!((report.back, report.etcd_writes.0), (report.dialers, 20_000), "{report}");
}

/// The model can tell when a rule is missing.
#[test]
fn without_turns_at_etcd_the_storm_does_not_end() {
    let setting = Setting { etcd_writes_per_second: 500, claims_at_once: None, ..Setting::new(100_000, 5) };
    let report = setting.run();
    assert!(report.back < report.dialers / 2, "{report}");
    assert!(report.etcd_writes.0 > 2 * 20_000, "{report}");
}

#[test]
fn without_waits_patience_and_limits_the_storm_does_not_end() {
    let (redials, limited) = (Redials::AtOnce, Limited::No);
    let report = Setting { redials, limited, ..Setting::new(100_000, 5) }.run();
    assert!(report.back < report.dialers / 2, "{report}");
    assert!(report.handshakes_each > 5.0, "{report}");
}
