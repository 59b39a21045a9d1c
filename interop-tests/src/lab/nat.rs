//! A router that lends its address to the host behind it.

use super::{
    host::{LAN_DEVICE, with_last_byte},
    internet::DEVICE,
    namespace::Namespace,
};
use crate::{process::run, programs};
use anyhow::Result;
use std::{
    net::Ipv4Addr,
    process::Command,
    sync::{Mutex, PoisonError},
};

/// The ports of one mapping; each rebind takes the next ones.
const PORTS: u16 = 1000;
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 60_000;

/// A router with network address translation.
#[derive(Debug)]
pub struct Nat {
    namespace: Namespace,
    outside: Mutex<Outside>,
}

/// What the internet sees.
#[derive(Clone, Copy, Debug)]
struct Outside {
    address: Ipv4Addr,
    first_port: u16,
}

impl Outside {
    fn next_ports(self) -> u16 {
        let next = self.first_port + PORTS;
        if next < LAST_PORT { next } else { FIRST_PORT }
    }
}

impl Nat {
    /// Makes a router of a host that has both devices.
    pub(super) fn start(namespace: Namespace, address: Ipv4Addr) -> Result<Self> {
        namespace.set("ipv4/ip_forward", "1")?;
        let nat = Self { namespace, outside: Mutex::new(Outside { address, first_port: FIRST_PORT }) };
        nat.change(|_| {})?;
        Ok(nat)
    }

    /// The address that the internet sees.
    pub fn address(&self) -> Ipv4Addr {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).address
    }

    /// Forgets every connection and gives the next packet of each a new port, as routers do that are restarted or have
    /// waited too long.
    ///
    /// # Errors
    /// When the system does not want to.
    pub fn rebind(&self) -> Result<()> {
        self.change(|outside| outside.first_port = outside.next_ports())
    }

    /// Takes another address outside, as when the provider gives a new one.
    ///
    /// # Errors
    /// When the system does not want to.
    pub fn change_address(&self) -> Result<Ipv4Addr> {
        self.change(|outside| {
            let last = outside.address.octets()[3];
            outside.address = with_last_byte(outside.address, if last >= 250 { 10 } else { last + 1 });
            outside.first_port = outside.next_ports();
        })?;
        Ok(self.address())
    }

    fn change(&self, change: impl FnOnce(&mut Outside)) -> Result<()> {
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut outside);
        let Outside { address, first_port } = *outside;
        self.namespace.configure(&format!(
            "address flush dev {DEVICE}\naddress add {address}/24 dev {DEVICE}\nroute replace default dev {DEVICE}\n"
        ))?;
        let ports = format!("{first_port}-{}", first_port + PORTS - 1);
        // Nobody gets in from outside, and what belongs to no connection is dropped without a word, as routers at home
        // do it: no refusal tells the other end that a mapping is gone.
        let rules = format!(
            "flush ruleset
            table ip lab {{
                chain out {{
                    type nat hook postrouting priority srcnat
                    oifname {DEVICE} meta l4proto {{ tcp, udp }} snat to {address}:{ports}
                    oifname {DEVICE} snat to {address}
                }}
                chain forward {{
                    type filter hook forward priority filter
                    iifname {LAN_DEVICE} accept
                    ct state established,related accept
                    drop
                }}
                chain input {{
                    type filter hook input priority filter
                    iifname {DEVICE} ct state established,related accept
                    iifname {DEVICE} drop
                }}
            }}"
        );
        self.namespace.enter(|| {
            run(Command::new(programs::installed("nft")?).args(["-f", "-"]), rules.as_bytes())?.success()?;
            run(Command::new(programs::installed("conntrack")?).arg("-F"), b"")?.success()?;
            Ok(())
        })
    }
}
