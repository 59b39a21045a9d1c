//! What all checks come to.

use super::{Check, CheckName};
use crate::link::Carrier;
use converge_proto::CarrierChoice;
use std::fmt;

/// Which carriers get through. Prints as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    allowed: CarrierChoice,
    quic: bool,
    websocket: bool,
}

impl Verdict {
    /// The verdict on a relay whose URL allows these carriers. A check that is missing has not passed.
    pub fn of(allowed: CarrierChoice, checks: &[Check]) -> Self {
        let works = |name| checks.iter().any(|check| check.name == name && check.outcome.works());
        Self {
            allowed,
            quic: allowed != CarrierChoice::WebSocket && works(CheckName::Quic),
            websocket: allowed != CarrierChoice::Quic && works(CheckName::WebSocket),
        }
    }

    /// The carrier that sessions will use; `None` when none gets through.
    pub fn carrier(&self) -> Option<Carrier> {
        match (self.quic, self.websocket) {
            (true, _) => Some(Carrier::Quic),
            (false, true) => Some(Carrier::WebSocket),
            (false, false) => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.allowed, self.quic, self.websocket) {
            (CarrierChoice::Auto, true, true) => {
                "sessions use QUIC, and WebSocket would take over if UDP stopped"
            }
            (CarrierChoice::Auto, true, false) => {
                "sessions use QUIC; WebSocket does not get through, so nothing takes over if UDP stops"
            }
            (CarrierChoice::Auto, false, true) => "sessions use WebSocket; QUIC does not get through",
            (CarrierChoice::Auto, false, false) => {
                "no carrier gets through: sessions and agents cannot reach the relay from here"
            }
            (CarrierChoice::Quic, true, _) => "sessions use QUIC, which alone is allowed",
            (CarrierChoice::Quic, false, _) => "QUIC does not get through, and nothing else is allowed",
            (CarrierChoice::WebSocket, _, true) => "sessions use WebSocket, which alone is allowed",
            (CarrierChoice::WebSocket, _, false) => {
                "WebSocket does not get through, and nothing else is allowed"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Outcome, report::Finding},
        *,
    };

    fn check(name: CheckName, outcome: Outcome) -> Check {
        Check { outcome, ..Finding::pass("").at_once(name) }
    }

    #[test]
    fn carrier_is_the_one_that_is_allowed_and_works() {
        use CarrierChoice::{Auto, Quic, WebSocket};
        use Outcome::{Fail, Pass, Skip, Warn};
        for (allowed, quic, websocket, carrier, words) in [
            (Auto, Pass, Pass, Some(Carrier::Quic), "WebSocket would take over"),
            (Auto, Warn, Fail, Some(Carrier::Quic), "nothing takes over"),
            (Auto, Pass, Skip, Some(Carrier::Quic), "nothing takes over"),
            (Auto, Fail, Pass, Some(Carrier::WebSocket), "QUIC does not get through"),
            (Auto, Skip, Warn, Some(Carrier::WebSocket), "QUIC does not get through"),
            (Auto, Fail, Fail, None, "no carrier gets through"),
            (Auto, Skip, Skip, None, "no carrier gets through"),
            (Quic, Pass, Skip, Some(Carrier::Quic), "sessions use QUIC"),
            (Quic, Fail, Pass, None, "QUIC does not get through, and nothing else is allowed"),
            (WebSocket, Skip, Pass, Some(Carrier::WebSocket), "sessions use WebSocket"),
            (WebSocket, Pass, Fail, None, "WebSocket does not get through, and nothing else is allowed"),
        ] {
            let checks = [check(CheckName::Quic, quic), check(CheckName::WebSocket, websocket)];
            let verdict = Verdict::of(allowed, &checks);
            assert_eq!(verdict.carrier(), carrier, "{allowed:?} {quic} {websocket}");
            assert!(verdict.to_string().contains(words), "{verdict}");
        }
    }

    #[test]
    fn other_checks_decide_nothing() {
        let checks = CheckName::ALL.map(|name| match name {
            CheckName::Quic | CheckName::WebSocket => check(name, Outcome::Fail),
            other => check(other, Outcome::Pass),
        });
        assert_eq!(Verdict::of(CarrierChoice::Auto, &checks).carrier(), None);
        assert_eq!(Verdict::of(CarrierChoice::Auto, &[]).carrier(), None);
    }
}
