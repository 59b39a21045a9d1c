mod line;
mod speaker;

use super::*;
use line::{Away, Change, Control, Flow, Line, Outcome};

/// 200 Mbit/s, 50 ms, and a queue for as much as is under way then.
const GOOD: Line = Line {
    bytes_per_second: 25_000_000,
    one_way: Duration::from_millis(25),
    queue: 1_250_000,
    loss: 0.0,
    jitter: Duration::ZERO,
    turns: Duration::ZERO,
    away: Away { slot: Duration::ZERO, part: 0.0, together: false },
};
const MILLISECOND: Duration = Duration::from_millis(1);
const RAMP: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(5);

fn steady() -> Control {
    Arc::new(SteadyConfig)
}

fn cubic() -> Control {
    Arc::new(CubicConfig::default())
}

fn from_the_start(control: Control) -> Vec<Flow> {
    vec![Flow { begins: Duration::ZERO, control }]
}

#[track_caller]
fn check(what: &str, outcome: &Outcome, least_share: f64, most_mean_wait: Duration) {
    println!("{what}: {outcome:?}");
    let share: f64 = outcome.shares.iter().sum();
    assert!(share >= least_share && outcome.mean_wait <= most_mean_wait, "{what}: {outcome:?}");
}

fn alone(what: &str, line: Line, least_share: f64, most_mean_wait: Duration) -> Outcome {
    let outcome = line.run(from_the_start(steady()), RAMP, WATCH);
    check(what, &outcome, least_share, most_mean_wait);
    outcome
}

#[test]
fn uses_a_line_with_loss_and_keeps_its_queue_short() {
    // At 3 % it is the stream's window that is not enough: what was lost twice keeps all behind it.
    for (loss, least_share, most_mean_wait) in
        [(0.0, 0.95, 5), (0.001, 0.95, 6), (0.01, 0.92, 10), (0.03, 0.7, 30)]
    {
        let line = Line { loss, ..GOOD };
        alone(&format!("{} % loss", loss * 100.0), line, least_share, most_mean_wait * MILLISECOND);
        let cubic = line.run(from_the_start(cubic()), RAMP, WATCH);
        println!("the same with CUBIC: {cubic:?}");
    }
}

#[test]
fn uses_lines_of_other_kinds() {
    let slow =
        Line { bytes_per_second: 600_000, one_way: 50 * MILLISECOND, queue: 60_000, loss: 0.02, ..GOOD };
    alone("5 Mbit/s, 100 ms, 2 % loss", slow, 0.85, 25 * MILLISECOND);
    let near = Line { bytes_per_second: 125_000_000, one_way: MILLISECOND, queue: 500_000, ..GOOD };
    alone("1 Gbit/s, 2 ms", near, 0.9, 5 * MILLISECOND);
    let outcome = alone("a queue of 4 ms", Line { queue: 100_000, ..GOOD }, 0.75, 4 * MILLISECOND);
    assert!(outcome.overflow < 0.04, "{outcome:?}");
    alone("jitter of 10 ms", Line { jitter: 10 * MILLISECOND, ..GOOD }, 0.7, 10 * MILLISECOND);
}

/// What is late there is the machines and not the line, whatever is sent.
#[test]
fn is_not_held_up_by_machines_that_are_busy() {
    let near = Line { bytes_per_second: 125_000_000, one_way: MILLISECOND / 20, queue: 2_000_000, ..GOOD };
    for (name, line, turns, loss, least_share) in [
        ("1 Gbit/s, 0.1 ms", near, 5, 0.0, 0.8),
        ("1 Gbit/s, 0.1 ms", near, 20, 0.0, 0.2),
        ("1 Gbit/s, 0.1 ms", near, 20, 0.01, 0.2),
        ("1 Gbit/s, 0.1 ms", near, 50, 0.0, 0.1),
        ("200 Mbit/s, 50 ms", GOOD, 5, 0.0, 0.9),
        ("200 Mbit/s, 50 ms", GOOD, 20, 0.0, 0.8),
        ("200 Mbit/s, 50 ms", GOOD, 20, 0.01, 0.6),
        ("200 Mbit/s, 50 ms", GOOD, 50, 0.0, 0.5),
    ] {
        let line = Line { turns: turns * MILLISECOND, loss, ..line };
        let what = format!("{name}, {} % loss, read every {turns} ms", loss * 100.0);
        alone(&what, line, least_share, 30 * MILLISECOND);
        let cubic = line.run(from_the_start(cubic()), RAMP, WATCH);
        println!("the same with CUBIC: {cubic:?}");
    }
}

/// As when others have the processors: nothing is sent, read or noticed meanwhile.
#[test]
fn is_not_held_up_by_machines_that_are_away() {
    for (slot, part, least_shares) in [
        (4, 0.6, [0.7, 0.7]),
        (10, 0.3, [0.85, 0.85]),
        (10, 0.8, [0.25, 0.25]),
        (30, 0.6, [0.35, 0.28]),
        (60, 0.5, [0.2, 0.12]),
    ] {
        for (together, least_share) in [true, false].into_iter().zip(least_shares) {
            let away = Away { slot: slot * MILLISECOND, part, together };
            let line = Line { away, ..GOOD };
            alone(&format!("{away:?}"), line, least_share, 35 * MILLISECOND);
            let cubic = line.run(from_the_start(cubic()), RAMP, WATCH);
            println!("the same with CUBIC: {cubic:?}");
        }
    }
}

#[test]
fn follows_a_line_that_changes() {
    for (what, line) in [
        ("a tenth of the rate", Line { bytes_per_second: 2_500_000, ..GOOD }),
        ("a way of twice the length", Line { one_way: 50 * MILLISECOND, ..GOOD }),
        ("half of the length", Line { one_way: 12 * MILLISECOND, ..GOOD }),
    ] {
        let change = Some(Change { at: RAMP, line });
        // Until it is known that the way is longer, somebody else could hold the queue.
        let known = RAMP + 2 * MEMORY + COMPETING;
        let outcome = GOOD.run_and_change(from_the_start(steady()), change, known, WATCH);
        check(what, &outcome, 0.85, 15 * MILLISECOND);
    }
    let narrow = Line { bytes_per_second: 2_500_000, ..GOOD };
    let change = Some(Change { at: RAMP, line: GOOD });
    let outcome = narrow.run_and_change(from_the_start(steady()), change, RAMP * 2, WATCH);
    check("ten times the rate", &outcome, 0.85, 10 * MILLISECOND);
}

fn one_after_the_other(line: Line, first: Control, second: Control) -> Outcome {
    let flows = [first, second].into_iter().zip([Duration::ZERO, Duration::from_secs(5)]);
    let flows = flows.map(|(control, begins)| Flow { begins, control }).collect();
    line.run(flows, Duration::from_secs(15), Duration::from_secs(30))
}

#[test]
fn takes_no_more_than_its_part_beside_cubic_and_does_not_starve() {
    for queue in [GOOD.queue / 4, GOOD.queue] {
        let line = Line { queue, ..GOOD };
        for (order, ours, first, second) in
            [("cubic, steady", 1, cubic(), steady()), ("steady, cubic", 0, steady(), cubic())]
        {
            let outcome = one_after_the_other(line, first, second);
            println!("{order}, a queue of {queue} bytes: {outcome:?}");
            assert!((0.08..=0.7).contains(&outcome.shares[ours]), "{outcome:?}");
        }
        println!("cubic, cubic: {:?}", one_after_the_other(line, cubic(), cubic()));
    }
}

#[test]
fn two_of_its_kind_share() {
    let outcome = one_after_the_other(GOOD, steady(), steady());
    check("steady, steady", &outcome, 0.9, 15 * MILLISECOND);
    assert!(outcome.shares.iter().all(|share| *share > 0.3), "{outcome:?}");
}

#[test]
fn persistent_loss_begins_anew_and_a_mark_takes_a_little() {
    let begun = Instant::now();
    let mut control = Steady::new(begun, 1200);
    assert_eq!(control.window(), 12_000, "ten packets");
    control.on_congestion_event(begun, begun, false, 1200);
    assert_eq!(control.window(), 12_000, "one packet says nothing");
    control.on_congestion_event(begun, begun, true, 1200);
    assert_eq!(control.window(), 2 * 1200);
    control.on_mtu_update(6000);
    assert_eq!(control.window(), 2 * 6000);
    control.stage = Stage::Cruise;
    control.window = 100_000;
    control.on_congestion_event(begun, begun, false, 0);
    let (round, trip) = (Round { marked: true, ..Round::new(begun) }, MILLISECOND);
    assert!(control.round.marked);
    control.round_ended(begun, &round, trip, 1e6);
    assert_eq!(control.window(), 85_000);
}

/// Keys that are typed meet the queues of others, and say nothing of what the path could take.
#[test]
fn who_sends_little_keeps_its_window() {
    let begun = Instant::now();
    for stage in [Stage::Start { best: 0.0, flat: 0 }, Stage::Cruise] {
        let mut control = Steady::new(begun, 1200);
        control.stage = stage;
        for number in 0..1000 {
            let round = Round { most: 100, arrived: 100, ..Round::new(begun) };
            let now = begun + number * 50 * MILLISECOND;
            control.round_ended(now, &round, (20 + number % 7 * 30) * MILLISECOND, 2000.0);
        }
        assert_eq!(control.window(), 12_000, "{:?}", control.stage);
    }
}

/// Nothing comes behind a key by itself that would show its loss.
#[test]
fn lost_key_is_sent_again_after_little_more_than_a_round_trip() {
    let line = Line { loss: 0.03, ..GOOD };
    let mut times = line.type_keys(steady(), Duration::from_mins(1));
    times.sort();
    let part = |part: usize| times[times.len() * part / 100];
    let longest = times.last().unwrap();
    println!("{} keys: {:?}, {:?}, {:?}, {longest:?}", times.len(), part(50), part(95), part(99));
    assert!(times.len() > 1000, "{} keys", times.len());
    assert!(part(50) < 51 * MILLISECOND, "{:?}", part(50));
    assert!(part(95) < 110 * MILLISECOND, "{:?}", part(95));
}
