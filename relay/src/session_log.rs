//! The log of sessions: who, when, with which agent, how long, how many bytes, why it ended. Never what was in them.
//!
//! Each session is a line of JSON when it begins and another when it ends (`line`). Sessions never wait for the log: lines
//! go through a queue of limited length to one task that owns the file (`writer`), and what does not fit, or cannot be
//! written, is counted.

mod line;
mod writer;

pub(crate) use writer::Writer;

use crate::directory::{AgentEntry, SessionEntry};
use line::Line;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::warn;

/// What may take longer than this is not written any more when the relay ends: a disk that hangs, or a reader of standard
/// output who does not read, does not keep it.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines that wait to be written.
const QUEUE: usize = 4096;

/// Where the log goes, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLogSettings {
    /// A file, to which lines are appended; `-` is standard output.
    pub path: PathBuf,
    /// Whether it has the addresses of clients and agents.
    pub has_addresses: bool,
}

/// Takes lines; one that is off takes none. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct SessionLog(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    lines: mpsc::Sender<String>,
    dropped: Arc<AtomicU64>,
    has_addresses: bool,
}

impl SessionLog {
    /// A log, and what its writer needs.
    fn new(has_addresses: bool) -> (Self, mpsc::Receiver<String>, Arc<AtomicU64>) {
        let (lines, queue) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let open = Open { lines, dropped: dropped.clone(), has_addresses };
        (Self(Some(Arc::new(open))), queue, dropped)
    }

    /// Lines that were not written since the relay began.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |open| open.dropped.load(Ordering::Relaxed))
    }

    pub(crate) fn began(&self, session: &SessionEntry, agent: Option<&AgentEntry>) {
        self.write(|addresses| Line::began(session, agent, addresses));
    }

    pub(crate) fn ended(&self, session: &SessionEntry, agent: Option<&AgentEntry>, reason: &str) {
        self.write(|addresses| Line::ended(session, agent, addresses, reason));
    }

    fn write<'a>(&self, line: impl FnOnce(bool) -> Line<'a>) {
        let Some(open) = &self.0 else { return };
        // Cannot fail: there is nothing in a line but texts and numbers.
        let Ok(text) = serde_json::to_string(&line(open.has_addresses)) else { return };
        if open.lines.try_send(text).is_err() && open.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("the session log cannot be written as fast as sessions come; lines are missing in it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        directory::{Directory, NewSession},
        peer::Peer,
    };
    use converge_proto::rendezvous::{SessionKind, messages::Name};
    use converge_transport::Carrier;
    use serde_json::Value;

    fn session(number: u64) -> NewSession {
        NewSession {
            number,
            id: "build".parse().unwrap(),
            kind: SessionKind::Resumable,
            software: Name::new("converge/1"),
            peer: Peer::new("192.0.2.7:5000".parse().unwrap(), Carrier::WebSocket),
            token: Some("developers".to_owned()),
            is_resumed: true,
        }
    }

    fn line(queue: &mut mpsc::Receiver<String>) -> Value {
        serde_json::from_str(&queue.try_recv().unwrap()).unwrap()
    }

    #[test]
    fn session_is_a_line_when_it_begins_and_one_when_it_ends() {
        let (log, mut queue, _) = SessionLog::new(true);
        let mut stay = Directory::with_log(log).begin(session(3));
        stay.because("done");
        drop(stay);
        let (began, ended) = (line(&mut queue), line(&mut queue));
        assert_eq!((&began["event"], &ended["event"]), (&"session_began".into(), &"session_ended".into()));
        for line in [&began, &ended] {
            assert_eq!((&line["session"], &line["id"]), (&3.into(), &"build".into()));
            assert_eq!((&line["client_token"], &line["resumed"]), (&"developers".into(), &true.into()));
            assert_eq!(
                (&line["client_address"], &line["carrier"]),
                (&"192.0.2.7:5000".into(), &"websocket".into())
            );
        }
        assert_eq!((&began["reason"], &ended["reason"]), (&Value::Null, &"done".into()));
        assert_eq!((&ended["to_agent_bytes"], &ended["to_client_bytes"]), (&0.into(), &0.into()));
    }

    #[test]
    fn addresses_can_be_left_out() {
        let (log, mut queue, _) = SessionLog::new(false);
        let stay = Directory::with_log(log).begin(session(1));
        assert_eq!(line(&mut queue)["client_address"], Value::Null);
        drop(stay);
    }

    #[test]
    fn full_queue_loses_lines_and_counts_them() {
        let (log, _queue, _) = SessionLog::new(true);
        let directory = Directory::with_log(log.clone());
        let stays: Vec<_> = (0..QUEUE as u64 + 2).map(|number| directory.begin(session(number))).collect();
        assert_eq!(log.dropped(), 2);
        drop(stays);
    }
}
