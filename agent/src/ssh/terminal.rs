//! Programs on a terminal.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::exit::Exit;
use super::flow::InputReader;
use super::notices::TerminalNotices;
use super::output::{ChannelOutput, Stream, read_chunk};
use super::process::{Launch, SignalRequests, discard, hang_up, wait};
use super::screen::Screen;
use crate::platform::pty::{Pty, PtyControl, PtyReader, PtyWriter, RunningPty};

/// How much output is still sent after a program has ended: more than any kernel buffers for a terminal. What a
/// background program adds for ever is not waited for.
const MAX_TAIL_BYTES: usize = 256 * 1024;

/// A terminal, and what is written on it besides what its program writes.
pub(super) struct Terminal {
    pub(super) pty: Pty,
    pub(super) notices: TerminalNotices,
    /// Lines for the person, before the program starts.
    pub(super) greeting: Option<String>,
}

/// Runs a program on a terminal. `None`: it was hung up, and there is nobody to be told how it ended.
pub(super) async fn run(
    launch: &Launch,
    terminal: Terminal,
    input: InputReader,
    output: &ChannelOutput,
    mut signals: SignalRequests,
    cancel: &CancellationToken,
) -> io::Result<Option<Exit>> {
    let Terminal { pty, mut notices, greeting } = terminal;
    let mut screen = Screen::default();
    if let Some(greeting) = greeting {
        let greeting = screen.put_in(&greeting);
        let sending = cancel.run_until_cancelled(output.send(Stream::Stdout, greeting));
        if !matches!(sending.await, Some(Ok(()))) {
            return Ok(None);
        }
    }
    let (mut child, RunningPty { mut reader, writer, control }) = {
        let (command, environment) = launch.command_on_terminal();
        pty.spawn(command, environment)?
    };
    let control = &control;
    let feeder = AbortOnDropHandle::new(tokio::spawn(
        feed(input, writer, std::sync::Arc::downgrade(control)).in_current_span(),
    ));
    let exited = CancellationToken::new();
    let forward = async {
        let mut buffer = BytesMut::new();
        loop {
            let chunk = tokio::select! {
                biased;
                () = exited.cancelled() => return send_tail(&mut reader, control, output).await,
                notice = notices.next() => {
                    let takes_lines = takes_lines(launch, &screen, control);
                    notices.push(notice, &screen, takes_lines).map(Bytes::from).unwrap_or_default()
                }
                // The error that a terminal without programs gives is its end of file.
                count = read_chunk(&mut reader, &mut buffer) => {
                    if count.unwrap_or(0) == 0 {
                        return;
                    }
                    let chunk = buffer.split().freeze();
                    screen.feed(&chunk);
                    chunk
                }
            };
            if !chunk.is_empty() && output.send(Stream::Stdout, chunk).await.is_err() {
                return;
            }
            if notices.are_waiting() && takes_lines(launch, &screen, control) {
                let lines = notices.show(&screen);
                if output.send(Stream::Stdout, lines).await.is_err() {
                    return;
                }
            }
        }
    };
    let supervise = async {
        let status = wait(&mut child, launch, &mut signals).await;
        exited.cancel();
        status
    };
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        (status, ()) = async { tokio::join!(supervise, forward) } => Some(status?),
    };
    if ended.is_none() {
        hang_up(&mut child, launch).await;
    }
    drop(feeder);
    Ok(ended.map(Exit::new))
}

/// Whether a line may be written now: not into the middle of something, and not into a program's own screen.
///
/// What a program in a container does with its terminal is not seen from here, but the other screen is.
fn takes_lines(launch: &Launch, screen: &Screen, control: &PtyControl) -> bool {
    let is_used_line_by_line = launch.inside.is_some() || control.is_used_line_by_line();
    screen.is_between() && !screen.is_alternate() && is_used_line_by_line
}

/// Sends what the terminal still holds, after the program on it has ended.
async fn send_tail(reader: &mut PtyReader, control: &PtyControl, output: &ChannelOutput) {
    let mut sent = 0;
    let mut buffer = [0; 4096];
    while sent < MAX_TAIL_BYTES {
        let count = reader.read_tail(control, &mut buffer).await;
        let Some(tail) = buffer.get(..count).filter(|tail| !tail.is_empty()) else { return };
        if output.send(Stream::Stdout, tail.to_vec()).await.is_err() {
            return;
        }
        sent += count;
    }
}

/// Types what the client sends; at its end what a person types to say so.
async fn feed(mut input: InputReader, mut terminal: PtyWriter, control: std::sync::Weak<PtyControl>) {
    let mut line_is_open = false;
    while let Some(chunk) = input.next().await {
        if terminal.write(&chunk).await.is_err() {
            discard(input).await;
            return;
        }
        line_is_open = !matches!(chunk.last(), Some(b'\n' | b'\r') | None);
    }
    let Some(typed) = control.upgrade().and_then(|control| control.end_of_input(line_is_open)) else {
        return;
    };
    // Fails when no program is left, which is what it would have asked for.
    let _ = terminal.write(&typed).await;
}
