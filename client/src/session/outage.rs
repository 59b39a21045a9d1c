//! What a person is told when a session stalls, and when it goes on.

use crate::target::Target;
use converge_proto::session::RESUME_WINDOW;
use converge_transport::Carrier;
use std::{
    convert::Infallible,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// An outage that is over sooner is not worth a word.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// How often the counter moves on a terminal.
const TICK: Duration = Duration::from_secs(1);

/// Whether the session has a path that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It goes on, over this carrier.
    Up(Option<Carrier>),
    /// Nothing has been heard since then.
    Down(Instant),
}

/// The outages of one session, from those who notice them to the person.
pub(super) struct Outages {
    state: watch::Sender<State>,
}

impl Outages {
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(State::Up(None)) }
    }

    /// Nothing has been heard since then. While it is down, the first word counts.
    pub(super) fn down(&self, since: Instant) {
        self.state.send_if_modified(|state| {
            let was_up = matches!(state, State::Up(_));
            if was_up {
                *state = State::Down(since);
            }
            was_up
        });
    }

    /// The session goes on.
    pub(super) fn up(&self, carrier: Carrier) {
        self.state.send_replace(State::Up(Some(carrier)));
    }

    /// Tells the person: one line when a session stalls, whose counter moves where it can, and one when it goes on.
    pub(super) async fn tell(&self, target: &Target, whose: Option<&str>) -> Infallible {
        let mut states = self.state.subscribe();
        // One session alone is that of an ssh.
        let hint = if whose.is_none() { " (~. ends it now)" } else { "" };
        let whose = whose.map(|whose| format!("{whose}: ")).unwrap_or_default();
        // Several sessions cannot share one line.
        let moves = whose.is_empty() && std::io::stderr().is_terminal();
        loop {
            let since = loop {
                let state = *states.borrow_and_update();
                match state {
                    State::Down(since) => {
                        let silent = tokio::time::sleep_until((since + SILENT_FOR).into());
                        tokio::select! {
                            () = silent => break since,
                            _ = states.changed() => {}
                        }
                    }
                    State::Up(_) => drop(states.changed().await),
                }
            };
            let mut line = Line { quiet: target.quiet, moves, is_open: false };
            line.put(&format!("converge: {whose}{}", stalled(since.elapsed(), hint)));
            let carrier = loop {
                tokio::select! {
                    _ = states.changed() => if let State::Up(carrier) = *states.borrow_and_update() {
                        break carrier;
                    },
                    () = tokio::time::sleep(TICK), if moves => {
                        line.put(&format!("converge: {}", stalled(since.elapsed(), hint)));
                    }
                }
            };
            let carrier = carrier.map(|carrier| format!(", over {carrier}")).unwrap_or_default();
            line.put(&format!("converge: {whose}back after {}{carrier}", seconds(since.elapsed())));
            line.close();
        }
    }
}

fn stalled(time: Duration, hint: &str) -> String {
    let window = RESUME_WINDOW.as_secs() / 60;
    format!("no answer for {}; trying for up to {window} min{hint}", seconds(time))
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// Words on standard error, in place where that is a terminal.
struct Line {
    quiet: bool,
    moves: bool,
    is_open: bool,
}

impl Line {
    /// On a terminal the text takes the place of the one before; else it is a line.
    fn put(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // ssh has the terminal in raw mode, where a line feed alone does not return to the first column. That nobody
        // can be told does not end the session.
        let _ = match (self.moves, self.is_open) {
            (true, true) => write!(stderr, "\r\x1b[K{text}"),
            (true, false) => write!(stderr, "\r\n{text}"),
            (false, _) => writeln!(stderr, "{text}"),
        };
        let _ = stderr.flush();
        self.is_open = true;
    }

    fn close(&mut self) {
        if self.moves && self.is_open && !self.quiet {
            let _ = write!(std::io::stderr(), "\r\n");
        }
        self.is_open = false;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}
