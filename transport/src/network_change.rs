//! Noticing that this host's network has changed: another Wi-Fi, a cable, a VPN, an address.

/// Changes of the host's links, addresses and routes.
///
/// On Linux the kernel tells (`rtnetlink`); on other systems nobody does, and there never is a change. Now and then there
/// is one in which nothing of interest has changed, such as a route that was renewed.
#[derive(Debug)]
pub struct NetworkChanges(Option<platform::Changes>);

impl NetworkChanges {
    /// Listens from now on. Where the system lets nobody listen, there never is a change.
    pub fn new() -> Self {
        Self(
            platform::Changes::new()
                .inspect_err(|error| tracing::debug!(%error, "changes of the network are noticed late"))
                .ok(),
        )
    }

    /// Waits for the next change, and then until nothing more has come for a quarter of a second, or for one second in
    /// all: what changes, changes in many steps. What has happened since the last call counts. Cancel-safe.
    pub async fn changed(&mut self) {
        match &mut self.0 {
            Some(changes) => changes.changed().await,
            None => std::future::pending().await,
        }
    }
}

impl Default for NetworkChanges {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
#[path = "network_change/netlink.rs"]
mod platform;

#[cfg(not(target_os = "linux"))]
mod platform {
    #[derive(Debug)]
    pub(super) struct Changes;

    impl Changes {
        pub(super) fn new() -> std::io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn changed(&mut self) {
            std::future::pending().await
        }
    }
}
