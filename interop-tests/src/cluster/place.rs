//! Where the programs of a cluster run.

use crate::{lab::Host, loopback::free_port};
use anyhow::Result;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Where one of them runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this machine, at any free port: others may run beside it.
    Loopback,
    /// On a host of a lab, which is all its own.
    Host(Arc<Host>),
}

impl Place {
    /// Does `work` there.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Loopback => work(),
            Self::Host(host) => host.enter(work),
        }
    }

    /// Whether it is on a host of its own.
    pub(super) fn is_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    /// What a program there is told to listen on, which is the port where there is nobody else.
    pub(super) fn listen(&self, port: u16) -> String {
        match self {
            Self::Loopback => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            Self::Host(host) => SocketAddr::from((host.address(), port)),
        }
        .to_string()
    }

    /// The same, for programs that find no free port by themselves.
    ///
    /// # Errors
    /// When the system has none.
    pub(super) fn address(&self, port: u16) -> Result<SocketAddr> {
        match self {
            Self::Loopback => free_port(),
            Self::Host(host) => Ok((host.address(), port).into()),
        }
    }
}
