//! This machine's clock beside the relay's, which tells its own in the header of every HTTP answer.

use super::report::Finding;
use http::{HeaderMap, header::DATE};
use std::time::{Duration, SystemTime};

/// Certificates are valid for a time, and clocks that agree so well never matter.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What the relay's clock said when ours said something else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    theirs: SystemTime,
    ours: SystemTime,
    /// Whether the certificate of whoever said so was accepted.
    verified: bool,
}

impl Told {
    /// What this answer, which has just come, says; `None` when it says nothing that makes sense.
    pub(super) fn by(headers: &HeaderMap, verified: bool) -> Option<Self> {
        let date = headers.get(DATE)?.to_str().ok()?;
        Some(Self { theirs: httpdate::parse_http_date(date).ok()?, ours: SystemTime::now(), verified })
    }
}

pub(super) fn judge(told: Option<Told>) -> Finding {
    let Some(Told { theirs, ours, verified }) = told else {
        return Finding::skip("nobody has told the time: that comes with an HTTP answer of the relay");
    };
    let whose = if verified { "the relay's" } else { "that of whoever answers there" };
    let (difference, direction) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    // The header knows whole seconds only.
    let seconds = Duration::from_secs(difference.as_secs());
    if difference <= TOLERANCE {
        return Finding::pass(format!(
            "within {} of {whose}",
            humantime::format_duration(seconds.max(Duration::from_secs(1)))
        ));
    }
    Finding::warn(
        format!("this machine is {} {direction} {whose}", humantime::format_duration(seconds)),
        "set this machine's clock, or the relay's if that is the wrong one: certificates are valid for a time",
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CheckName, Outcome},
        *,
    };
    use http::HeaderValue;

    #[test]
    fn five_minutes_are_tolerated_in_both_directions() {
        let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (second, limit) = (Duration::from_secs(1), TOLERANCE);
        for (ours, verified, outcome, seen) in [
            (theirs, true, Outcome::Pass, "within 1s of the relay's"),
            (theirs + limit, true, Outcome::Pass, "within 5m of the relay's"),
            (theirs - limit, true, Outcome::Pass, "within 5m of the relay's"),
            (theirs + limit + second, true, Outcome::Warn, "this machine is 5m 1s ahead of the relay's"),
            (theirs - limit - second, true, Outcome::Warn, "this machine is 5m 1s behind the relay's"),
            (theirs, false, Outcome::Pass, "within 1s of that of whoever answers there"),
        ] {
            let check = judge(Some(Told { theirs, ours, verified })).at_once(CheckName::Clock);
            assert_eq!((check.outcome, check.seen.as_str()), (outcome, seen));
            assert_eq!(check.fix.is_some(), outcome == Outcome::Warn);
        }
        assert_eq!(judge(None).at_once(CheckName::Clock).outcome, Outcome::Skip);
    }

    #[test]
    fn header_that_is_no_date_tells_nothing() {
        let told = |date: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            Told::by(&headers, true)
        };
        let theirs = told("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().theirs;
        assert_eq!(theirs, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert!(told("yesterday").is_none());
        assert!(told("").is_none());
        assert!(Told::by(&HeaderMap::new(), true).is_none());
    }
}
