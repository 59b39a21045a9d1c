//! Ctrl-C, Ctrl-Break, the closing of the console, and the end of the user's or the system's session.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff,
    ctrl_shutdown,
};

use crate::platform::signals::{Ignored, Signal};

/// The events that stop an agent.
pub(crate) struct StopSignals {
    interrupt: CtrlC,
    stronger: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

impl StopSignals {
    pub(crate) fn new(_: Ignored) -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            stronger: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// The number of the signal that the next one stands for.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.stronger.recv() => Signal::INT,
            _ = self.close.recv() => Signal::TERM,
            _ = self.logoff.recv() => Signal::TERM,
            _ = self.shutdown.recv() => Signal::TERM,
        }
        .as_raw()
    }
}
