//! `converge-relay drain`: asks a running relay to hand over and end, and says how that goes.

use super::control::{self, DRAIN, HEARTBEAT, Word};
use crate::{
    command_line::{DrainRelay, Tls},
    config::file::File,
};
use anyhow::{Context, bail};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
};

/// What a relay says of itself while it drains for days.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// Returns when the relay has ended; with a failure when sessions had to be cut.
pub(super) fn drain(command: &DrainRelay) -> anyhow::Result<ExitCode> {
    let path = control::path(&state_dir(command)?);
    let mut stream = UnixStream::connect(&path).with_context(|| {
        format!(
            "no relay listens on {}; --state-dir must be that of a running relay, and its user's or root's to use",
            path.display()
        )
    })?;
    stream.set_read_timeout(Some(HEARTBEAT * 6))?;
    stream.write_all(format!("{DRAIN}\n").as_bytes()).context("the relay cannot be told")?;
    for line in BufReader::new(stream.take(MAX_ANSWER_BYTES)).lines() {
        let line = line.context("the relay has stopped answering; its log says what it does")?;
        let Some((word, text)) = Word::split(&line) else {
            bail!("the relay answers what makes no sense: {line}")
        };
        if word == Word::Error {
            bail!("{text}");
        }
        if !text.is_empty() {
            // Who does not read it wants the relay drained all the same.
            let _ = writeln!(io::stdout(), "{text}");
        }
        match word {
            Word::Stopped => return Ok(ExitCode::SUCCESS),
            Word::Cut => return Ok(ExitCode::FAILURE),
            Word::Waits | Word::Error => {}
        }
    }
    bail!("the relay has gone without a word; its log may say why")
}

/// As the relay finds it: what is typed or a variable, the file, the default.
fn state_dir(command: &DrainRelay) -> anyhow::Result<PathBuf> {
    let DrainRelay { state_dir, config } = command;
    if let Some(state_dir) = state_dir {
        return Ok(state_dir.clone());
    }
    let in_file =
        config.as_deref().map(File::read).transpose().map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let in_file = in_file.and_then(|file| file.settings.tls.state_dir);
    Ok(in_file.unwrap_or_else(|| PathBuf::from(Tls::DEFAULT_STATE_DIR)))
}
