//! Who may try when, and who wins: the rules of the race, without a socket.

use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{sleep, timeout};

/// How long QUIC is alone before WebSocket is tried beside it. Three round trips of most paths, and no longer than a
/// person notices where UDP is dropped without a word.
pub const HEAD_START: Duration = Duration::from_millis(250);
/// How much longer QUIC may say nothing after WebSocket has failed: what keeps TCP out rarely lets UDP in.
pub(super) const QUIC_LAST_CHANCE: Duration = Duration::from_secs(2);
/// How long one address is alone before the next is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Races two carriers: QUIC from the start, WebSocket after the head start, or as soon as QUIC has failed. The first
/// that is ready wins, and the other one is dropped.
///
/// # Errors
/// What each met; `None` for a QUIC that was still silent some time after WebSocket had failed.
pub(super) async fn carriers<L, E>(
    quic: impl Future<Output = Result<L, E>>,
    websocket: impl Future<Output = Result<L, E>>,
    head_start: Duration,
) -> Result<L, (Option<E>, E)> {
    tokio::pin!(quic, websocket);
    let alone = tokio::select! {
        // So that an answer counts also when there is no head start.
        biased;
        result = &mut quic => Some(result),
        () = sleep(head_start) => None,
    };
    let quic_result = if let Some(result) = alone {
        result
    } else {
        tokio::select! {
            result = &mut quic => result,
            result = &mut websocket => return match result {
                Ok(link) => Ok(link),
                Err(second) => match timeout(QUIC_LAST_CHANCE, quic).await {
                    Ok(result) => result.map_err(|first| (Some(first), second)),
                    Err(_) => Err((None, second)),
                },
            },
        }
    };
    match quic_result {
        Ok(link) => Ok(link),
        Err(first) => websocket.await.map_err(|second| (Some(first), second)),
    }
}

/// How long one relay is alone before the next is tried beside it: time for both its carriers, so that one which works is
/// rarely raced by another for nothing.
pub const NEXT_RELAY: Duration = Duration::from_millis(500);

/// Races the addresses of one name.
///
/// # Errors
/// What each met, in the order in which they failed.
pub(super) async fn addresses<T, E, F>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    in_turn(addresses, NEXT_ADDRESS, attempt).await
}

/// Races all of these, each one `pause` later than the one before it, or as soon as one has failed. The first that is
/// ready wins, and the others are dropped.
///
/// # Errors
/// What each met, in the order in which they failed.
pub(super) async fn in_turn<I, T, E, F>(
    items: &[I],
    pause: Duration,
    attempt: impl Fn(I) -> F,
) -> Result<T, Vec<E>>
where
    I: Copy,
    F: Future<Output = Result<T, E>>,
{
    let mut left = items.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        attempts.extend(left.next().map(|item| attempt(*item)));
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(winner) => return Ok(winner),
                Err(failure) => failures.push(failure),
            },
            () = sleep(pause), if left.len() > 0 => {}
            else => return Err(failures),
        }
    }
}

/// Families in turn, beginning with that of the first address, which the system prefers (RFC 8305 section 4); no address
/// twice, and not more than `limit`.
pub(super) fn interleaved(found: impl Iterator<Item = SocketAddr>, limit: usize) -> Vec<SocketAddr> {
    let mut seen = Vec::new();
    for address in found {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    let first_is_ipv6 = seen.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            ordered.truncate(limit);
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, future::pending};
    use tokio::time::Instant;

    type Outcome = Result<&'static str, &'static str>;

    async fn after(millis: u64, outcome: Outcome) -> Outcome {
        sleep(Duration::from_millis(millis)).await;
        outcome
    }

    const NEVER: u64 = 1_000_000;

    /// QUIC's delay and answer, WebSocket's, the head start; the outcome, and when.
    type Row = (
        (u64, Outcome),
        (u64, Outcome),
        u64,
        Result<&'static str, (Option<&'static str>, &'static str)>,
        u64,
    );

    /// Every row: when QUIC and WebSocket answer after their start, and what; the head start; who wins, and when.
    #[tokio::test(start_paused = true)]
    async fn carriers_win_and_lose_as_the_table_says() {
        let (quic, websocket) = (Ok("quic"), Ok("websocket"));
        let rows: [Row; 13] = [
            // QUIC answers within its head start: nobody else is asked.
            ((100, quic), (0, websocket), 250, Ok("quic"), 100),
            // Silence costs the head start and not a millisecond more.
            ((NEVER, quic), (100, websocket), 250, Ok("websocket"), 350),
            // A slow QUIC that is still faster than WebSocket.
            ((300, quic), (100, websocket), 250, Ok("quic"), 300),
            // A QUIC that fails hands over at once.
            ((10, Err("q")), (100, websocket), 250, Ok("websocket"), 110),
            ((300, Err("q")), (100, websocket), 250, Ok("websocket"), 350),
            ((10, Err("q")), (100, Err("w")), 250, Err((Some("q"), "w")), 110),
            ((300, Err("q")), (100, Err("w")), 250, Err((Some("q"), "w")), 350),
            // WebSocket fails: QUIC has a last chance, which ends.
            ((1000, quic), (100, Err("w")), 250, Ok("quic"), 1000),
            ((NEVER, quic), (100, Err("w")), 250, Err((None, "w")), 2350),
            ((1000, Err("q")), (100, Err("w")), 250, Err((Some("q"), "w")), 1000),
            // No head start: side by side.
            ((NEVER, quic), (100, websocket), 0, Ok("websocket"), 100),
            ((50, quic), (100, websocket), 0, Ok("quic"), 50),
            ((NEVER, quic), (0, Err("w")), 0, Err((None, "w")), 2000),
        ];
        for (number, ((quic_ms, quic), (websocket_ms, websocket), head_start, expected, at)) in
            rows.into_iter().enumerate()
        {
            let begun = Instant::now();
            let head_start = Duration::from_millis(head_start);
            let outcome = carriers(after(quic_ms, quic), after(websocket_ms, websocket), head_start).await;
            assert_eq!((outcome, begun.elapsed()), (expected, Duration::from_millis(at)), "row {number}");
        }
    }

    fn addresses_of(hosts: &[&str]) -> Vec<SocketAddr> {
        hosts.iter().map(|host| SocketAddr::new(host.parse().unwrap(), 1)).collect()
    }

    /// When each address is tried, when all of them do `outcome` after `millis`.
    async fn tries(count: usize, millis: u64, outcome: Outcome) -> (Vec<u128>, Result<&'static str, usize>) {
        let (begun, tried) = (Instant::now(), RefCell::new(Vec::new()));
        let all = addresses_of(&["::1", "127.0.0.1", "::2", "127.0.0.2"]);
        let result = addresses(&all[..count], |_| {
            tried.borrow_mut().push(begun.elapsed().as_millis());
            after(millis, outcome)
        });
        let result = result.await.map_err(|failures| failures.len());
        (tried.into_inner(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_tried_one_after_the_other_and_at_once_after_a_failure() {
        assert_eq!(tries(4, 100, Ok("yes")).await, (vec![0], Ok("yes")));
        assert_eq!(tries(4, 600, Ok("yes")).await, (vec![0, 250, 500], Ok("yes")));
        assert_eq!(tries(4, 100, Err("no")).await, (vec![0, 100, 200, 300], Err(4)));
        assert_eq!(tries(3, 350, Err("no")).await, (vec![0, 250, 350], Err(3)));
        assert_eq!(tries(0, 100, Ok("yes")).await, (vec![], Err(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_first_address_does_not_keep_the_second() {
        let all = addresses_of(&["::1", "127.0.0.1"]);
        let begun = Instant::now();
        let winner = addresses(&all, |address| async move {
            if address.is_ipv6() { pending::<Result<SocketAddr, ()>>().await } else { Ok(address) }
        });
        assert_eq!(winner.await, Ok(all[1]));
        assert_eq!(begun.elapsed(), NEXT_ADDRESS);
    }

    #[test]
    fn families_take_turns() {
        for (found, ordered) in [
            (&["::1", "::2", "::3", "10.0.0.1"][..], &["::1", "10.0.0.1", "::2", "::3"][..]),
            (&["10.0.0.1", "10.0.0.2", "::1", "::2"], &["10.0.0.1", "::1", "10.0.0.2", "::2"]),
            (&["::1", "::2", "::3", "::4", "::5", "10.0.0.1"], &["::1", "10.0.0.1", "::2", "::3"]),
            (&["10.0.0.1", "10.0.0.1"], &["10.0.0.1"]),
            (&[], &[]),
        ] {
            assert_eq!(interleaved(addresses_of(found).into_iter(), 4), addresses_of(ordered), "{found:?}");
        }
    }
}
