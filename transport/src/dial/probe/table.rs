//! A report as text: for a terminal, and for a CI log.

use super::{Check, Outcome, Report};
use std::{fmt, time::Duration};
use textwrap::Options;

/// Lines are not longer than this.
const WIDTH: usize = 96;
/// Where what was seen begins: behind name, outcome and time.
const INDENT: usize = 9 + 2 + 4 + 2 + 6 + 2;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pin would fill a line, and says nothing that the TLS check does not say.
        writeln!(f, "relay: {}\n", self.relay.clone().with_pin(None))?;
        for check in &self.checks {
            write_check(f, check)?;
        }
        writeln!(f)?;
        write_wrapped(f, &format!("verdict: {}", self.verdict), "", "         ")
    }
}

fn write_check(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let took = if check.outcome == Outcome::Skip { String::new() } else { shown(check.took) };
    let begin = format!("{:9}  {:4}  {took:>6}  ", check.name, check.outcome);
    let blank = " ".repeat(INDENT);
    write_wrapped(f, &check.seen, &begin, &blank)?;
    match &check.fix {
        Some(fix) => write_wrapped(f, fix, &format!("{blank}fix: "), &format!("{blank}     ")),
        None => Ok(()),
    }
}

fn write_wrapped(f: &mut fmt::Formatter<'_>, text: &str, first: &str, next: &str) -> fmt::Result {
    let options = Options::new(WIDTH).initial_indent(first).subsequent_indent(next);
    textwrap::wrap(text, options).iter().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
}

/// At most six characters.
fn shown(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CheckName, report::Finding},
        *,
    };

    fn report() -> Report {
        let url = format!("https://relay.example:4433#pin-sha256={}", "A".repeat(43));
        let after = |finding: Finding, name, millis| Check {
            took: Duration::from_millis(millis),
            ..finding.at_once(name)
        };
        let checks = vec![
            after(Finding::pass("192.0.2.1, 2001:db8::1"), CheckName::Dns, 12),
            after(Finding::fail("no answer", "ask ".repeat(40)), CheckName::Quic, 5000),
            Finding::skip("there is no QUIC connection").at_once(CheckName::Mtu),
            after(Finding::pass("opened"), CheckName::WebSocket, 999),
            after(Finding::warn("12m behind", "set it"), CheckName::Clock, 0),
        ];
        Report::new(url.parse().unwrap(), checks)
    }

    #[test]
    fn table_is_aligned() {
        let expected = "\
relay: https://relay.example:4433

dns        PASS   12 ms  192.0.2.1, 2001:db8::1
quic       FAIL   5.0 s  no answer
                         fix: ask ask ask ask ask ask ask ask ask ask ask ask ask ask ask ask
                              ask ask ask ask ask ask ask ask ask ask ask ask ask ask ask ask
                              ask ask ask ask ask ask ask ask
mtu        SKIP          there is no QUIC connection
websocket  PASS  999 ms  opened
clock      WARN    0 ms  12m behind
                         fix: set it

verdict: sessions use WebSocket; QUIC does not get through
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_is_wide() {
        let mut report = report();
        for check in &mut report.checks {
            check.seen = "word ".repeat(100) + &"x".repeat(300);
        }
        for line in report.to_string().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn names_and_outcomes_fit_their_columns() {
        for name in CheckName::ALL {
            assert!(name.to_string().len() <= 9, "{name}");
        }
        for millis in [0, 999, 1000, 59_999, 120_000] {
            assert!(shown(Duration::from_millis(millis)).len() <= 7, "{millis}");
        }
    }
}
