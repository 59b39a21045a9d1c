//! The socket in the state directory by which `converge-relay drain` reaches a running relay. Whoever may use the directory
//! may stop the relay.
//!
//! One line is asked, [`DRAIN`]. The answer is lines of a [word](Word) and a text for people, until the relay has ended.

use crate::server::{Counts, Stopped};
use anyhow::{Context, bail};
use converge_certs::create_private_directory;
use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// What can be asked.
pub(super) const DRAIN: &str = "drain";
/// How often at least something is said.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// How soon a change of the counts is told.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const MAX_QUESTION_BYTES: u64 = 64;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// What is said must have been taken by then.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ASKING: usize = 8;

/// What a line of the answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It goes on.
    Waits,
    /// The relay has ended, and so had every session.
    Stopped,
    /// The relay has ended, and sessions had to be cut.
    Cut,
    /// That cannot be asked.
    Error,
}

impl Word {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Waits, "waits"), (Self::Stopped, "stopped"), (Self::Cut, "cut"), (Self::Error, "error")];

    /// The word and the text of a line.
    pub(super) fn split(line: &str) -> Option<(Self, &str)> {
        let (word, text) = line.split_once(' ')?;
        let (word, _) = Self::ALL.into_iter().find(|(_, name)| *name == word)?;
        Some((word, text))
    }

    fn line(self, text: &str) -> String {
        let name = Self::ALL.into_iter().find(|(word, _)| *word == self).map_or("", |(_, name)| name);
        format!("{name} {text}\n")
    }
}

/// Where the socket is.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// The relay's end.
pub(super) struct Control {
    listener: UnixListener,
    socket: SocketFile,
}

/// Removed at the end, unless it is another relay's by then.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Control {
    /// Listens in this directory, which is made when it is not there.
    pub(super) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = path(state_dir);
        let in_it = || format!("cannot listen on {}", path.display());
        create_private_directory(state_dir).with_context(in_it)?;
        match BlockingUnixStream::connect(&path) {
            Ok(_) => {
                bail!("cannot listen on {}: another relay with this state directory does", path.display())
            }
            // What a relay has left that was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(&path).with_context(in_it)?;
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(&path).with_context(in_it)?;
        let inode = fs::symlink_metadata(&path).with_context(in_it)?.ino();
        let socket = SocketFile { path: path.clone(), inode };
        fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(in_it)?;
        Ok(Self { listener, socket })
    }

    /// Answers until the relay has ended and those who have asked know.
    pub(super) async fn serve(
        self,
        counts: Counts,
        stop: CancellationToken,
        mut ended: watch::Receiver<Option<Stopped>>,
    ) {
        let Self { listener, socket: _socket } = self;
        let answerer = Answerer { counts, stop, ended: ended.clone() };
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = has_ended(&mut ended) => break,
                Some(_) = answers.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if answers.len() < MAX_ASKING => {
                        drop(answers.spawn(answerer.clone().answer(stream)));
                    }
                    Ok(_) => debug!("too many ask for the relay to be drained"),
                    Err(error) => {
                        debug!(%error, "cannot accept on the control socket");
                        tokio::time::sleep(LOOK_INTERVAL).await;
                    }
                }
            }
        }
        answers.join_all().await;
    }
}

#[derive(Clone)]
struct Answerer {
    counts: Counts,
    stop: CancellationToken,
    ended: watch::Receiver<Option<Stopped>>,
}

impl Answerer {
    async fn answer(mut self, stream: UnixStream) {
        let (mut read, mut write) = stream.into_split();
        let asked = tokio::time::timeout(QUESTION_TIMEOUT, read_question(&mut read)).await;
        let Ok(Ok(question)) = asked else { return };
        if question != DRAIN {
            let _ = say(&mut write, Word::Error, "this relay does not understand that; upgrade it").await;
            return;
        }
        // Who is there is said first, as they may be gone at once. Who does not listen wants the relay drained all the same.
        let there = self.counts.now();
        let _ = say_counts(&mut write, there).await;
        self.stop.cancel();
        if let Err(error) = self.tell_until_the_end(&mut write, there).await {
            return debug!(%error, "who has asked for the relay to be drained does not listen");
        }
        // In a container the end of the relay is the end of all: let the other one end first.
        let _ = read.read_u8().await;
    }

    async fn tell_until_the_end(
        &mut self,
        write: &mut OwnedWriteHalf,
        mut told: (usize, usize),
    ) -> io::Result<()> {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut silent_looks = 0;
        loop {
            tokio::select! {
                biased;
                ended = has_ended(&mut self.ended) => {
                    return match ended {
                        Some(Stopped::SessionsCut) => say(write, Word::Cut, "stopped; sessions were cut").await,
                        _ => say(write, Word::Stopped, "stopped; every session had ended").await,
                    };
                }
                _ = looks.tick() => {}
            }
            let there = self.counts.now();
            silent_looks += 1;
            if told != there {
                told = there;
                silent_looks = 0;
                say_counts(write, there).await?;
            } else if LOOK_INTERVAL * silent_looks >= HEARTBEAT {
                silent_looks = 0;
                say(write, Word::Waits, "").await?;
            }
        }
    }
}

/// How the relay has ended, when it has.
async fn has_ended(ended: &mut watch::Receiver<Option<Stopped>>) -> Option<Stopped> {
    ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended)
}

async fn read_question(read: &mut OwnedReadHalf) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(read.take(MAX_QUESTION_BYTES)).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

async fn say_counts(write: &mut OwnedWriteHalf, (agents, sessions): (usize, usize)) -> io::Result<()> {
    say(write, Word::Waits, &format!("agents: {agents}, sessions: {sessions}")).await
}

async fn say(write: &mut OwnedWriteHalf, word: Word, text: &str) -> io::Result<()> {
    let line = word.line(text);
    tokio::time::timeout(WRITE_TIMEOUT, write.write_all(line.as_bytes())).await.map_err(io::Error::from)?
}
