//! `converge list`: the agents and sessions of a relay, once or as they change.

mod table;

use crate::{
    error::ClientError,
    operator::{Connection, Events, Operator},
    target::say,
};
use converge_proto::RelayUrl;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
    time::{Duration, SystemTime},
};

/// Without anything happening, bytes are still counted.
const REFRESH: Duration = Duration::from_secs(5);
/// At most one look at the relay in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON object in one line.
    Json,
}

/// Prints what is there now.
///
/// # Errors
/// [`ClientError`].
pub async fn run(operator: &Operator, format: Format) -> Result<(), ClientError> {
    let listing = fetch(&mut operator.connect().await?).await?;
    print(&listing, format, false)
}

/// Prints what is there, again whenever it has changed, until it is interrupted.
///
/// # Errors
/// [`ClientError`] when the first look fails; later the relay is waited for.
pub async fn watch(operator: &Operator, format: Format) -> Result<(), ClientError> {
    let mut connection = operator.connect().await?;
    let mut listing = fetch(&mut connection).await?;
    let mut stream: Option<(Connection<'_>, Events)> = None;
    let mut is_away = false;
    loop {
        print(&listing, format, true)?;
        if stream.is_none() {
            // Without one, looking now and then has to do.
            let event = listing.get("event").and_then(Value::as_u64).unwrap_or(0);
            stream = follow(operator, connection.relay(), event).await;
        }
        let changed = async {
            match &mut stream {
                Some((_, events)) => events.changed().await,
                None => std::future::pending().await,
            }
        };
        if !tokio::time::timeout(REFRESH, changed).await.unwrap_or(true) {
            stream = None;
        }
        loop {
            tokio::time::sleep(PAUSE).await;
            match again(operator, &mut connection).await {
                Ok(new) => {
                    listing = new;
                    is_away = false;
                    break;
                }
                Err(ClientError::Dial { .. } | ClientError::ApiBroken(_)) => {
                    if !is_away {
                        say("the relay is away; waiting for it");
                    }
                    is_away = true;
                    stream = None;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The events of that relay: another one counts its own.
async fn follow<'a>(
    operator: &'a Operator,
    relay: &RelayUrl,
    after: u64,
) -> Option<(Connection<'a>, Events)> {
    let mut connection = operator.connect().await.ok()?;
    if connection.relay() != relay {
        return None;
    }
    let events = connection.events(after).await.ok()?;
    Some((connection, events))
}

async fn again<'a>(operator: &'a Operator, connection: &mut Connection<'a>) -> Result<Value, ClientError> {
    match fetch(connection).await {
        Err(ClientError::ApiBroken(_)) => {
            // The relay may have closed it in the meantime.
            *connection = operator.connect().await?;
            fetch(connection).await
        }
        fetched => fetched,
    }
}

/// All pages of both lists, as one object.
async fn fetch(connection: &mut Connection<'_>) -> Result<Value, ClientError> {
    let mut unreachable = BTreeSet::new();
    let (agents, event) = all(connection, "agents", &mut unreachable).await?;
    let (sessions, _) = all(connection, "sessions", &mut unreachable).await?;
    let mut listing = json!({ "event": event, "agents": agents, "sessions": sessions });
    if let Some(listing) = listing.as_object_mut().filter(|_| !unreachable.is_empty()) {
        listing.insert("unreachable".to_owned(), json!(unreachable));
    }
    Ok(listing)
}

async fn all(
    connection: &mut Connection<'_>,
    what: &str,
    unreachable: &mut BTreeSet<u64>,
) -> Result<(Vec<Value>, Value), ClientError> {
    let (mut entries, mut first_event, mut after) = (Vec::new(), None, String::new());
    loop {
        let mut page = connection.get(&format!("{what}?limit=1000{after}")).await?;
        let mut take = |name: &str| page.get_mut(name).map(Value::take).unwrap_or_default();
        first_event.get_or_insert_with(|| take("event"));
        // Relays of a cluster whose part is missing.
        if let Value::Array(relays) = take("unreachable") {
            unreachable.extend(relays.iter().filter_map(Value::as_u64));
        }
        if let Value::Array(more) = take(what) {
            entries.extend(more);
        }
        after = match take("next") {
            Value::String(next) => format!("&after={next}"),
            Value::Number(next) => format!("&after={next}"),
            _ => return Ok((entries, first_event.unwrap_or_default())),
        };
    }
}

fn print(listing: &Value, format: Format, is_again: bool) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    let text = match format {
        Format::Json => format!("{listing}\n"),
        Format::Table => {
            let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
            let table = table::of(listing, columns.filter(|_| out.is_terminal()), SystemTime::now());
            match (is_again, out.is_terminal()) {
                // From the top, and nothing below.
                (true, true) => format!("\x1b[H\x1b[2J{table}"),
                (true, false) => format!("{table}\n"),
                (false, _) => table,
            }
        }
    };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(ClientError::local("cannot write")),
    }
}
