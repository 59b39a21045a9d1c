//! Changes as Linux tells them: rtnetlink(7). That something was said is all that counts; nothing of it is read.

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with,
    },
};
use std::{io, os::fd::OwnedFd, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, timeout_at},
};

/// Multicast groups, of `linux/rtnetlink.h`: `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`,
/// `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// A burst is over when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(250);
/// A burst is told after so long even if it goes on.
const LONGEST_BURST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Changes {
    socket: AsyncFd<OwnedFd>,
    /// When the present burst must be told at the latest. Kept here, so that a call that is dropped loses nothing.
    deadline: Option<Instant>,
}

impl Changes {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 of this family is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe because it takes what does not own its descriptor; an OwnedFd does"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket, deadline: None })
    }

    pub(super) async fn changed(&mut self) {
        let deadline = if let Some(deadline) = self.deadline {
            deadline
        } else {
            self.news().await;
            *self.deadline.insert(Instant::now() + LONGEST_BURST)
        };
        while timeout_at((Instant::now() + QUIET).min(deadline), self.news()).await.is_ok()
            && Instant::now() < deadline
        {}
        self.deadline = None;
    }

    /// Waits until something was said, and takes all of it.
    async fn news(&self) {
        loop {
            let Ok(mut ready) = self.socket.readable().await else { return std::future::pending().await };
            let mut said_something = false;
            loop {
                match recv(&self.socket, &mut [0_u8; 4096][..], RecvFlags::TRUNC) {
                    // More was said than the kernel would hold for us.
                    Ok(_) | Err(Errno::NOBUFS) => said_something = true,
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => break,
                    Err(error) => {
                        tracing::debug!(%error, "changes of the network are no longer noticed");
                        return std::future::pending().await;
                    }
                }
            }
            ready.clear_ready();
            if said_something {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::process::Command;

    /// Set in the process that has a network of its own.
    const INSIDE: &str = "CONVERGE_TEST_NETWORK_OF_ITS_OWN";
    const NAME: &str = "network_change::platform::tests::change_is_told_once_per_burst";

    fn unshare() -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.arg("--net");
        command
    }

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    #[tokio::test]
    async fn listening_is_allowed() {
        Changes::new().unwrap();
    }

    #[tokio::test]
    async fn change_is_told_once_per_burst() {
        if std::env::var_os(INSIDE).is_some() {
            return inside().await;
        }
        let allowed = unshare().args(["ip", "link", "show", "lo"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            eprintln!("not tested: no network namespace can be made here");
            return;
        }
        let mut again = unshare();
        again.arg(std::env::current_exe().unwrap()).args(["--exact", NAME]).env(INSIDE, "1");
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    async fn inside() {
        const GUARD: Duration = Duration::from_secs(20);
        let mut changes = Changes::new().unwrap();
        assert_eq!(changes.news().now_or_never(), None, "nothing has happened");
        ip("link set lo up");
        ip("addr add 10.1.2.3/32 dev lo");
        ip("addr add 10.1.2.4/32 dev lo");
        tokio::time::timeout(GUARD, changes.changed()).await.unwrap();
        assert_eq!(changes.news().now_or_never(), None, "the burst has been told");
        for change in ["addr del 10.1.2.4/32 dev lo", "addr add 2001:db8::1/128 dev lo", "link set lo down"] {
            ip(change);
            // A call that is dropped early forgets nothing.
            assert_eq!(changes.changed().now_or_never(), None, "{change}");
            tokio::time::timeout(GUARD, changes.changed()).await.unwrap_or_else(|_| panic!("{change}"));
        }
    }
}
