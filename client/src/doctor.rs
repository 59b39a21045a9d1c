//! `converge doctor`: what gets through from here to a relay, as a table or as JSON.

use crate::{
    config_file::ConfigFile,
    error::{ClientError, ExitStatus},
};
use converge_proto::{Address, RelayUrls, version::ProtocolVersion};
use converge_transport::{
    DialOptions,
    probe::{Report, probe},
};
use futures_util::future::join_all;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    Table,
    /// One JSON object, whose keys stay what they are.
    Json,
}

/// The relay of what was typed, or the relays: a URL, a list of them, or an agent's address, which may leave the relay to `configured` or to the
/// user's configuration file, as may nothing at all.
///
/// # Errors
/// [`ClientError::Usage`] when none of them names a relay.
pub fn relays(typed: Option<&str>, configured: Option<&RelayUrls>) -> Result<RelayUrls, ClientError> {
    let wrong = |error: &dyn std::fmt::Display| {
        ClientError::Usage(format!("neither a relay's URL nor an agent's address: {error}"))
    };
    let of_address = match typed {
        Some(text) if text.contains("://") => Some(match text.parse::<Address>() {
            Ok(Address { relay: Some(relay), .. }) => relay.into(),
            Ok(_) | Err(_) => text.parse::<RelayUrls>().map_err(|error| wrong(&error))?,
        }),
        Some(text) => text.parse::<Address>().map_err(|error| wrong(&error))?.relay.map(RelayUrls::from),
        None => None,
    };
    match of_address.or_else(|| configured.cloned()) {
        Some(relays) => Ok(relays),
        None => ConfigFile::load()?.relays.ok_or_else(|| {
            ClientError::Usage(
                "no relay to look at: give its URL, --relay, CONVERGE_RELAY or a configuration file"
                    .to_owned(),
            )
        }),
    }
}

/// Probes the relays, side by side, and prints what was found, on standard output: one report after the other, or of
/// several a JSON list. All is well when one relay can be used.
///
/// # Errors
/// [`ClientError`] when this machine cannot do its part.
pub async fn run(
    relays: &RelayUrls,
    options: &DialOptions,
    format: Format,
) -> Result<ExitStatus, ClientError> {
    let reports = join_all(relays.iter().map(|relay| probe(relay, options))).await;
    let reports = reports.into_iter().collect::<Result<Vec<_>, _>>();
    let reports = reports.map_err(|error| ClientError::Dial { error })?;
    let text = match format {
        Format::Table => reports.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        Format::Json => json(&reports)?,
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(ClientError::local("cannot write")(error));
        }
        // A reader that has gone has read enough.
        _ => {}
    }
    let is_reached = reports.iter().any(|report| report.verdict.carrier().is_some());
    Ok(if is_reached { ExitStatus::Success } else { ExitStatus::Unreachable })
}

/// What programs read. The README lists these keys.
#[derive(Serialize)]
struct Shown<'a> {
    relay: String,
    software: &'static str,
    protocol: Vec<&'static str>,
    checks: Vec<ShownCheck<'a>>,
    /// `quic`, `websocket` or nothing.
    carrier: Option<String>,
    verdict: String,
}

#[derive(Serialize)]
struct ShownCheck<'a> {
    check: String,
    result: String,
    time_ms: u64,
    seen: &'a str,
    fix: Option<&'a str>,
}

fn json(reports: &[Report]) -> Result<String, ClientError> {
    let shown: Vec<_> = reports.iter().map(shown).collect();
    let text = match shown.as_slice() {
        [one] => serde_json::to_string_pretty(one),
        several => serde_json::to_string_pretty(several),
    };
    text.map(|text| text + "\n")
        .map_err(std::io::Error::from)
        .map_err(ClientError::local("cannot write JSON"))
}

fn shown(report: &Report) -> Shown<'_> {
    let checks = report.checks.iter().map(|check| ShownCheck {
        check: check.name.to_string(),
        result: check.outcome.to_string().to_lowercase(),
        time_ms: u64::try_from(check.took.as_millis()).unwrap_or(u64::MAX),
        seen: &check.seen,
        fix: check.fix.as_deref(),
    });
    Shown {
        relay: report.relay.to_string(),
        software: env!("CARGO_PKG_VERSION"),
        protocol: ProtocolVersion::ALL.iter().map(|version| version.subprotocol()).collect(),
        checks: checks.collect(),
        carrier: report.verdict.carrier().map(|carrier| carrier.to_string()),
        verdict: report.verdict.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use converge_transport::probe::{Check, CheckName, Outcome, Verdict};
    use std::time::Duration;

    #[test]
    fn relay_is_found_in_what_was_typed_or_configured() {
        let configured: RelayUrls = "https://configured".parse().unwrap();
        for (typed, found) in [
            (None, "https://configured"),
            (Some("build"), "https://configured"),
            (Some("build.converge"), "https://configured"),
            (Some("wss://relay:4433"), "wss://relay:4433"),
            (Some("https://relay/base"), "https://relay/base"),
            (Some("https://relay/base/client/build"), "https://relay/base"),
            (Some("quic://relay:4433/client/build"), "quic://relay:4433"),
            (Some("https://a, wss://b"), "https://a,wss://b"),
        ] {
            let relay = relays(typed, Some(&configured)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(relay.to_string(), found, "{typed:?}");
        }
        for wrong in ["gopher://relay", "https://", "-", "https://relay?x"] {
            let error = relays(Some(wrong), Some(&configured)).unwrap_err();
            assert_eq!(error.exit_status(), ExitStatus::Usage, "{wrong}");
        }
    }

    #[test]
    fn json_has_the_promised_keys() {
        let checks = vec![
            Check {
                name: CheckName::Quic,
                outcome: Outcome::Fail,
                took: Duration::from_secs(5),
                seen: "no answer".to_owned(),
                fix: Some("ask".to_owned()),
            },
            Check {
                name: CheckName::WebSocket,
                outcome: Outcome::Pass,
                took: Duration::from_millis(2),
                seen: "opened".to_owned(),
                fix: None,
            },
        ];
        let relay: converge_proto::RelayUrl = "https://relay".parse().unwrap();
        let verdict = Verdict::of(relay.carriers(), &checks);
        let text = json(&[Report { relay, checks, verdict }]).unwrap_or_else(|error| panic!("{error}"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "relay": "https://relay",
            "software": env!("CARGO_PKG_VERSION"),
            "protocol": ["converge.1"],
            "checks": [
                { "check": "quic", "result": "fail", "time_ms": 5000, "seen": "no answer", "fix": "ask" },
                { "check": "websocket", "result": "pass", "time_ms": 2, "seen": "opened", "fix": null },
            ],
            "carrier": "websocket",
            "verdict": "sessions use WebSocket; QUIC does not get through",
        });
        assert_eq!(value, expected);

        let report = |relay: &str| {
            let relay: converge_proto::RelayUrl = relay.parse().unwrap();
            Report { verdict: Verdict::of(relay.carriers(), &[]), relay, checks: Vec::new() }
        };
        let text =
            json(&[report("https://a"), report("https://b")]).unwrap_or_else(|error| panic!("{error}"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let relays: Vec<_> = value.as_array().unwrap().iter().map(|report| report["relay"].clone()).collect();
        assert_eq!(relays, ["https://a", "https://b"]);
    }
}
