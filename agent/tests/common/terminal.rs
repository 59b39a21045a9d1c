//! A person at a terminal: an interactive program on a PTY of the test's own.

use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use std::process::ExitStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::PATIENCE;

pub(crate) struct Terminal {
    child: Child,
    reader: OwnedReadPty,
    writer: OwnedWritePty,
    seen: String,
}

impl Terminal {
    pub(crate) fn open(command: Command, rows: u16, columns: u16) -> Self {
        let (pty, pts) = pty_process::open().expect("a PTY");
        pty.resize(Size::new(rows, columns)).expect("a size");
        let child = pty_process::Command::from(command).spawn(pts).expect("the program is installed");
        let (reader, writer) = pty.into_split();
        Self { child, reader, writer, seen: String::new() }
    }

    pub(crate) async fn type_text(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.expect("the terminal takes input");
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        self.writer.resize(Size::new(rows, columns)).expect("a size");
    }

    /// Reads until the text appears, and forgets everything up to its end. What was typed is echoed: ask for
    /// something that is only in the answer.
    pub(crate) async fn expect(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                if let Some(at) = self.seen.find(text) {
                    let rest = self.seen.split_off(at + text.len());
                    return Ok(std::mem::replace(&mut self.seen, rest));
                }
                let mut buffer = [0; 4096];
                match self.reader.read(&mut buffer).await {
                    Ok(count) if count > 0 => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                    ended => return Err(ended),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, reading).await.ok() {
            Some(Ok(before)) => before,
            Some(Err(ended)) => {
                panic!("{text:?} did not appear before the end ({ended:?}), but {:?}", self.seen)
            }
            None => panic!("{text:?} does not appear, but {:?}", self.seen),
        }
    }

    /// Asks the shell on it for its size until that is this one: a change travels on its own.
    pub(crate) async fn until_size(&mut self, size: &str) {
        let asking = async {
            for round in 0.. {
                self.type_text(&format!("stty size; echo asked-{round}-$((1+1))\n")).await;
                if self.expect(&format!("asked-{round}-2")).await.contains(size) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the size changes");
    }

    /// Reads to the end; the remaining text and how the program ended.
    pub(crate) async fn finish(mut self) -> (String, ExitStatus) {
        let ending = async {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = self.reader.read(&mut buffer).await {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            self.child.wait().await.expect("the program can be waited for")
        };
        match tokio::time::timeout(PATIENCE, ending).await.ok() {
            Some(status) => (self.seen, status),
            None => panic!("the program does not end; it said {:?}", self.seen),
        }
    }
}
