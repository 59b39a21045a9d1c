//! A person at a terminal: an interactive program on a PTY.

use crate::process::{PATIENCE, eventually};
use anyhow::{Context, Result, bail};
use pty_process::{Size, blocking::Pty};
use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::Instant,
};

/// A program on a PTY, and what is on the screen.
pub struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts `command` on a PTY of this size.
    ///
    /// # Errors
    /// When there is no PTY, or the program cannot be started.
    pub fn open(mut command: Command, rows: u16, columns: u16) -> Result<Self> {
        command.env("TERM", "xterm");
        let (pty, pts) = pty_process::blocking::open().context("cannot open a PTY")?;
        pty.resize(Size::new(rows, columns))?;
        let child = pty_process::blocking::Command::from(command).spawn(pts)?;
        let pty = Arc::new(pty);
        let (sender, output) = mpsc::channel();
        let reader = pty.clone();
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            // A PTY reports its end as an error.
            while let Ok(len @ 1..) = (&*reader).read(&mut block) {
                if sender.send(block[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { pty, child, output, seen: String::new() })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal takes no input.
    pub fn type_text(&self, text: &str) -> Result<()> {
        (&*self.pty).write_all(text.as_bytes()).context("the terminal takes no input")
    }

    /// Gives the window another size.
    ///
    /// # Errors
    /// When the system does not want to.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.pty.resize(Size::new(rows, columns)).context("the window cannot be resized")
    }

    /// Waits until the text appears, and returns everything before it, which is then forgotten. What was typed is
    /// echoed: ask for something that is only in the answer.
    ///
    /// # Errors
    /// With what is on the screen, when the program ends or time is over first.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                self.seen.truncate(at);
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{text:?} does not appear, but {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{text:?} did not appear before the end, but {:?}", self.seen)
                }
            }
        }
    }

    /// Waits for the end. The text until then, and how the program ended.
    ///
    /// # Errors
    /// With what is on the screen, when it does not end.
    pub fn finish(mut self) -> Result<(String, ExitStatus)> {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(bytes) = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen += &String::from_utf8_lossy(&bytes);
        }
        let status = eventually("the end of the program", || self.child.try_wait().ok().flatten());
        let status = status.with_context(|| format!("on the screen: {:?}", self.seen))?;
        Ok((std::mem::take(&mut self.seen), status))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
