//! Agents and sessions as a table that fits the terminal.

#![allow(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]

use crate::operator::clean;
use serde_json::Value;
use std::time::SystemTime;

/// Between two columns.
const GAP: &str = "  ";
/// No column is cut to less.
const MIN_COLUMN: usize = 6;

/// The lists as text, in lines of at most `columns` characters.
pub(super) fn of(listing: &Value, columns: Option<usize>, now: SystemTime) -> String {
    let rows = |name: &str| listing[name].as_array().cloned().unwrap_or_default();
    let agents: Vec<Vec<String>> = rows("agents").iter().map(|agent| agent_row(agent, now)).collect();
    let sessions: Vec<Vec<String>> =
        rows("sessions").iter().map(|session| session_row(session, now)).collect();
    let missing: Vec<_> = rows("unreachable").iter().map(text).collect();
    let missing = match missing.as_slice() {
        [] => String::new(),
        relays => format!("\nwithout what is at these relays, which do not answer: {}\n", relays.join(", ")),
    };
    if agents.is_empty() && sessions.is_empty() {
        return format!("no agents\n{missing}");
    }
    let heads = ["AGENT", "JOB", "HOST", "BY", "FOR", "SESSIONS", "UP", "DOWN", "ENDS IN"];
    let mut text = with_relays(&heads, agents, &rows("agents"), columns);
    if !sessions.is_empty() {
        text.push('\n');
        let heads = ["SESSION", "AGENT", "FROM", "BY", "FOR", "PROGRAM", "UP", "DOWN"];
        text.push_str(&with_relays(&heads, sessions, &rows("sessions"), columns));
    }
    text + &missing
}

/// A table that says at which relay each is, where several act as one.
fn with_relays(
    heads: &[&str],
    mut rows: Vec<Vec<String>>,
    entries: &[Value],
    columns: Option<usize>,
) -> String {
    let mut heads = heads.to_vec();
    if entries.iter().any(|entry| entry["relay"].is_u64()) {
        // Behind what it is called.
        heads.insert(1, "RELAY");
        for (row, entry) in rows.iter_mut().zip(entries) {
            row.insert(1, text(&entry["relay"]));
        }
    }
    table(&heads, &rows, columns)
}

fn agent_row(agent: &Value, now: SystemTime) -> Vec<String> {
    let ends = match agent["status"]["expires"].as_str().and_then(moment) {
        _ if agent["status"]["held"] == true => "held".to_owned(),
        Some(at) => span(at.duration_since(now).unwrap_or_default().as_secs()),
        None => "-".to_owned(),
    };
    vec![
        text(&agent["id"]),
        text(&agent["job"]),
        text(&agent["host"]),
        text(&agent["carrier"]),
        age(&agent["since"], now),
        text(&agent["sessions"]),
        size(&agent["to_agent_bytes"]),
        size(&agent["to_client_bytes"]),
        ends,
    ]
}

fn session_row(session: &Value, now: SystemTime) -> Vec<String> {
    vec![
        text(&session["number"]),
        text(&session["id"]),
        text(&session["peer"]),
        text(&session["carrier"]),
        age(&session["since"], now),
        text(&session["software"]),
        size(&session["to_agent_bytes"]),
        size(&session["to_client_bytes"]),
    ]
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => clean(text),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    }
}

fn moment(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

fn age(since: &Value, now: SystemTime) -> String {
    let since = since.as_str().and_then(moment);
    since
        .map_or_else(|| "-".to_owned(), |since| span(now.duration_since(since).unwrap_or_default().as_secs()))
}

/// The two largest units.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn size(bytes: &Value) -> String {
    let bytes = bytes.as_u64().unwrap_or(0);
    let (mut whole, mut rest, mut unit) = (bytes, 0, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if unit == "B" || whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{rest} {unit}") }
}

fn table(heads: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = heads.iter().map(|head| length(head)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    if let Some(columns) = columns {
        shrink(&mut widths, columns);
    }
    let line = |cells: &[&str]| {
        let cells: Vec<_> = cells.iter().zip(&widths).map(|(cell, width)| fit(cell, *width)).collect();
        format!("{}\n", cells.join(GAP).trim_end())
    };
    let body = rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    std::iter::once(line(heads)).chain(body).collect()
}

/// Makes the widest columns narrower, until all fit or none can be made narrower.
fn shrink(widths: &mut [usize], columns: usize) {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > columns {
        match widths.iter_mut().max() {
            Some(widest) if *widest > MIN_COLUMN => *widest -= 1,
            _ => return,
        }
    }
}

fn fit(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return format!("{cell:width$}");
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing() -> Value {
        json!({
            "agents": [{
                "id": "build", "job": "octocat/hello-world: a job with a very long name #3", "host": "runner-1",
                "carrier": "quic", "since": "2026-11-21T14:00:00.000Z", "sessions": 1, "to_agent_bytes": 1536,
                "to_client_bytes": 10, "status": {"users": 1, "held": false, "expires": "2026-11-21T14:40:00.000Z"},
            }],
            "sessions": [{
                "number": 7, "id": "build", "peer": "127.0.0.1:1", "carrier": "websocket", "software": "converge/0.1.0",
                "since": "2026-11-21T14:09:00.000Z", "to_agent_bytes": 1536, "to_client_bytes": 10,
            }],
        })
    }

    #[test]
    fn table_has_everything_and_fits_the_terminal() {
        let now = moment("2026-11-21T14:10:05Z").unwrap();
        let wide = of(&listing(), None, now);
        for expected in ["very long name #3", "10m05s", "29m55s", "1.5 KiB", "10 B", "1m05s", "127.0.0.1:1"] {
            assert!(wide.contains(expected), "{expected} is not in\n{wide}");
        }
        let narrow = of(&listing(), Some(80), now);
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(narrow.contains("build") && narrow.contains('…'), "{narrow}");
        assert_eq!(of(&json!({"agents": [], "sessions": []}), None, now), "no agents\n");
    }

    #[test]
    fn relay_is_told_where_there_are_several() {
        let now = moment("2026-11-21T14:10:05Z").unwrap();
        assert!(!of(&listing(), None, now).contains("RELAY"));
        let mut of_two = listing();
        of_two["agents"][0]["relay"] = json!(12);
        of_two["unreachable"] = json!([2, 7]);
        let text = of(&of_two, None, now);
        assert!(text.ends_with("\nwithout what is at these relays, which do not answer: 2, 7\n"), "{text}");
        let [heads, row] = [0, 1].map(|line| text.lines().nth(line).unwrap().split_whitespace().nth(1));
        assert_eq!((heads, row), (Some("RELAY"), Some("12")), "{text}");
    }

    #[test]
    fn what_an_agent_says_of_itself_moves_no_cursor() {
        let now = SystemTime::UNIX_EPOCH;
        let listing = json!({"agents": [{"id": "a", "job": "\u{1b}[2Jgone"}], "sessions": []});
        assert!(!of(&listing, None, now).contains('\u{1b}'));
    }

    #[test]
    fn sizes_have_their_units() {
        let size = |bytes: u64| size(&json!(bytes));
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(150 * 1024 * 1024), "150 MiB");
    }
}
