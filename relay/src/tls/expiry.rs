//! A word to the operator before the certificate expires.

use super::{Source, Tls, date};
use converge_certs::Facts;
use std::time::{Duration, SystemTime};
use tracing::{error, warn};

/// How often the clock is looked at.
const INTERVAL: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// How near the end is. Each is said once of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Far,
    Near,
    VeryNear,
    Over,
}

/// 14 and 3 days before; earlier than a third and a tenth of its life is no reason to worry for a short one.
fn nearness(facts: &Facts, now: SystemTime) -> Nearness {
    let Ok(left) = facts.not_after.duration_since(now) else { return Nearness::Over };
    if left < (3 * DAY).min(facts.lifetime() / 10) {
        Nearness::VeryNear
    } else if left < (14 * DAY).min(facts.lifetime() / 3) {
        Nearness::Near
    } else {
        Nearness::Far
    }
}

/// Watches the certificate that is shown, until cancelled.
pub(super) async fn warn_in_time(tls: &Tls) {
    let mut said = (tls.identity.current(), Nearness::Far);
    let mut early = None;
    loop {
        let current = tls.identity.current();
        if !current.is_same(&said.0) {
            said = (current.clone(), Nearness::Far);
        }
        let (facts, now) = (current.facts(), SystemTime::now());
        if now < facts.not_before && early != Some(facts.not_before) {
            early = Some(facts.not_before);
            warn!(not_before = %date(facts.not_before), "the certificate is not valid yet; check this machine's clock");
        }
        let nearness = nearness(facts, now);
        if nearness > said.1 {
            said.1 = nearness;
            say(tls, facts, nearness, now);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn say(tls: &Tls, facts: &Facts, nearness: Nearness, now: SystemTime) {
    let names = facts.names.join(" ");
    let not_after = date(facts.not_after);
    let remedy = match &tls.source {
        Source::Kept => "start the relay with another one".to_owned(),
        Source::Files(files) => {
            format!("write a new one to {}, it is taken over at once", files.certificate.display())
        }
        Source::Acme(settings) => {
            format!("the log says why {} has not renewed it", settings.directory)
        }
    };
    let left = facts.not_after.duration_since(now).unwrap_or_default();
    match nearness {
        Nearness::Far => {}
        Nearness::Over => {
            error!(%names, %not_after, "the certificate has expired: agents and clients refuse it; {remedy}");
        }
        Nearness::Near | Nearness::VeryNear => {
            let left = humantime::format_duration(whole_hours(left));
            warn!(%names, %not_after, "the certificate expires in {left}; {remedy}");
        }
    }
}

/// Minutes are of interest in the last hour only.
fn whole_hours(left: Duration) -> Duration {
    let unit = if left < Duration::from_hours(1) { 60 } else { 3600 };
    Duration::from_secs(left.as_secs() / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(days: u32) -> Facts {
        let not_before = SystemTime::UNIX_EPOCH;
        Facts { names: vec![], not_before, not_after: not_before + days * DAY, self_signed: false }
    }

    #[test]
    fn end_is_near_fourteen_days_before_and_very_near_three() {
        let facts = lives(90);
        let at = |left: Duration| nearness(&facts, facts.not_after - left);
        assert_eq!(at(90 * DAY), Nearness::Far);
        assert_eq!(at(14 * DAY), Nearness::Far);
        assert_eq!(at(13 * DAY + DAY / 2), Nearness::Near);
        assert_eq!(at(3 * DAY), Nearness::Near);
        assert_eq!(at(2 * DAY + DAY / 2), Nearness::VeryNear);
        assert_eq!(at(Duration::ZERO), Nearness::VeryNear);
        assert_eq!(nearness(&facts, facts.not_after + DAY / 24), Nearness::Over);
    }

    #[test]
    fn short_life_is_no_alarm_from_its_first_day() {
        let facts = lives(6);
        let at = |left: Duration| nearness(&facts, facts.not_after - left);
        assert_eq!(at(5 * DAY), Nearness::Far);
        assert_eq!(at(DAY), Nearness::Near);
        assert_eq!(at(DAY / 2), Nearness::VeryNear);
    }

    #[test]
    fn time_left_is_said_in_hours_or_minutes() {
        let text =
            |seconds| humantime::format_duration(whole_hours(Duration::from_secs(seconds))).to_string();
        assert_eq!(text(13 * 86400 + 3599), "13days");
        assert_eq!(text(2 * 86400 + 5 * 3600 + 61), "2days 5h");
        assert_eq!(text(119), "1m");
    }
}
