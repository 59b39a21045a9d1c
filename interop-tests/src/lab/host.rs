//! A host, and how it gets to the internet.

use super::{
    internet::{DEVICE, Internet},
    namespace::Namespace,
    nat::Nat,
    proxy::HttpProxy,
    uplink::Uplink,
};
use crate::process::{Output, Process, run};
use anyhow::{Context, Result};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// How a host gets to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// With an address of its own.
    Direct,
    /// Behind a router that lends it one.
    Nat,
    /// Only through an HTTP proxy that asks for a password. Nothing else leads out.
    HttpProxy,
}

/// The name of the device to a router or proxy.
pub(super) const LAN_DEVICE: &str = "lan";
/// Every local network is the same, as at home; the router or proxy is its first host.
pub(super) const LAN_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
/// An address that nobody else has.
const SPARE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 99, 99);
/// The last byte of a host's first address.
const FIRST_ADDRESS: u8 = 10;
/// The last byte of its last one; then it begins again.
const LAST_ADDRESS: u8 = 250;

/// A host of the lab.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    directory: PathBuf,
    /// Any address in its network.
    network: Ipv4Addr,
    device: &'static str,
    last_byte: AtomicU8,
    uplink: Arc<Uplink>,
    gateway: Gateway,
}

#[derive(Debug)]
enum Gateway {
    None,
    Nat(Nat),
    HttpProxy(HttpProxy),
}

impl Host {
    /// Makes a host that has, or whose router has, an address in `network`.
    pub(super) fn new(
        internet: &Internet,
        label: &str,
        network: Ipv4Addr,
        access: Access,
        directory: &Path,
    ) -> Result<Self> {
        let namespace = Namespace::new(label)?;
        let outside = with_last_byte(network, FIRST_ADDRESS);
        let (uplink, gateway) = match access {
            Access::Direct => (internet.join(&namespace, outside)?, Gateway::None),
            Access::Nat => {
                let router = Namespace::new(&format!("{label}-router"))?;
                let uplink = internet.join(&router, outside)?;
                join_lan(&router, &namespace)?;
                (uplink, Gateway::Nat(Nat::start(router, outside)?))
            }
            Access::HttpProxy => {
                let proxy = Namespace::new(&format!("{label}-proxy"))?;
                let uplink = internet.join(&proxy, outside)?;
                join_lan(&proxy, &namespace)?;
                let proxy = HttpProxy::start(proxy, &format!("{label}-proxy"), directory)?;
                (uplink, Gateway::HttpProxy(proxy))
            }
        };
        let (network, device) = match access {
            Access::Direct => (network, DEVICE),
            Access::Nat | Access::HttpProxy => (LAN_ROUTER, LAN_DEVICE),
        };
        let last_byte = AtomicU8::new(FIRST_ADDRESS);
        let host =
            Self { namespace, directory: directory.to_owned(), network, device, last_byte, uplink, gateway };
        if access != Access::Direct {
            host.take_address(FIRST_ADDRESS)?;
        }
        Ok(host)
    }

    /// Its address, as it sees it itself.
    pub fn address(&self) -> Ipv4Addr {
        with_last_byte(self.network, self.last_byte.load(Ordering::Relaxed))
    }

    /// The name of its network, for `ip -n`.
    pub fn network_name(&self) -> &str {
        self.namespace.name()
    }

    /// Its way to the internet; that of its router or proxy, when it has one.
    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// Its router.
    ///
    /// # Errors
    /// When it has [`Access`] of another kind.
    pub fn nat(&self) -> Result<&Nat> {
        match &self.gateway {
            Gateway::Nat(nat) => Ok(nat),
            _ => anyhow::bail!("this host is not behind a router"),
        }
    }

    /// Its proxy.
    ///
    /// # Errors
    /// When it has [`Access`] of another kind.
    pub fn proxy(&self) -> Result<&HttpProxy> {
        match &self.gateway {
            Gateway::HttpProxy(proxy) => Ok(proxy),
            _ => anyhow::bail!("this host is not behind a proxy"),
        }
    }

    /// Gives it another address in its network, and takes the old one away, as when it comes back from sleep. Behind a
    /// router the outside sees another port at most; [`Nat::change_address`] is what it sees of a move.
    ///
    /// # Errors
    /// When the system does not want to.
    pub fn change_address(&self) -> Result<Ipv4Addr> {
        let last = self.last_byte.load(Ordering::Relaxed);
        self.take_address(if last >= LAST_ADDRESS { FIRST_ADDRESS } else { last + 1 })?;
        Ok(self.address())
    }

    /// Gives it one more address and takes that away again: what its programs see of a network that has come, while
    /// nothing that they use goes.
    ///
    /// # Errors
    /// When the system does not want to.
    pub fn announce_network(&self) -> Result<()> {
        let device = self.device;
        self.namespace.configure(&format!(
            "address add {SPARE_ADDRESS}/32 dev {device}\naddress del {SPARE_ADDRESS}/32 dev {device}\n"
        ))
    }

    fn take_address(&self, last_byte: u8) -> Result<()> {
        let (device, address) = (self.device, with_last_byte(self.network, last_byte));
        let route = match self.gateway {
            Gateway::None => format!("route replace default dev {device}"),
            Gateway::Nat(_) => format!("route replace default via {LAN_ROUTER} dev {device}"),
            // Nowhere but to the proxy.
            Gateway::HttpProxy(_) => String::new(),
        };
        self.namespace.configure(&format!(
            "address flush dev {device}\naddress add {address}/24 dev {device}\n{route}\n"
        ))?;
        self.last_byte.store(last_byte, Ordering::Relaxed);
        Ok(())
    }

    /// Does `work` on this host: the sockets it opens and the processes it starts are there for good.
    ///
    /// # Errors
    /// When the work fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.enter(work)
    }

    /// Runs a command on this host to its end, with `input` on standard input.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn run(&self, command: &mut Command, input: &[u8]) -> Result<Output> {
        self.enter(|| run(command, input))
    }

    /// Starts a command on this host, which takes input by lines. Its log is `name.log` in the lab's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        self.enter(|| Process::start_with_input(name, command, &self.directory))
            .with_context(|| format!("on {}", self.namespace.name()))
    }
}

/// A cable between a router or proxy and the host behind it. Only the first gets its address here.
fn join_lan(router: &Namespace, host: &Namespace) -> Result<()> {
    let inside = host.name();
    router.configure(&format!(
        "link add {LAN_DEVICE} type veth peer name {LAN_DEVICE} netns {inside}\n\
         address add {LAN_ROUTER}/24 dev {LAN_DEVICE}\nlink set {LAN_DEVICE} up\n"
    ))?;
    host.configure(&format!("link set {LAN_DEVICE} up\n"))
}

pub(super) fn with_last_byte(network: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [first, second, third, _] = network.octets();
    Ipv4Addr::new(first, second, third, last)
}
