//! The internet between the hosts: a thread for each of them, which carries the packets that the host sends.
//!
//! A host has a TUN device, which hands us its packets and takes those for it. A packet meets the sender's uplink, then
//! the receiver's, and waits here until both let it through. There is no other way between two hosts of the lab, and
//! none to the world outside.

use super::{
    conditions::{Fate, USUAL_MTU},
    namespace::Namespace,
    packet::Packet,
    uplink::{Direction, Uplink},
};
use anyhow::{Context, Result};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::Instant,
};
use tun_rs::{DeviceBuilder, SyncDevice};

/// The name of the device in each host.
pub(super) const DEVICE: &str = "internet";
/// Packets a device keeps for us while we are busy. More than all windows of the programs under test together: what is
/// lost in a scenario is lost because the scenario wants it.
const DEVICE_QUEUE_PACKETS: u32 = 20_000;
/// Packets that are taken from a device before those that wait are looked after again.
const AT_ONCE: usize = 64;
/// Longer than any packet of a device.
const BUFFER_BYTES: usize = 4096;

/// The network part of an address: the lab's networks are all `/24`.
pub(super) type Network = [u8; 3];

/// The internet of one lab.
#[derive(Debug)]
pub(super) struct Internet {
    places: Arc<Places>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: Arc<OwnedFd>,
    seed: u64,
}

#[derive(Debug, Default)]
struct Places(RwLock<BTreeMap<Network, Arc<Place>>>);

/// Where a host meets the internet.
struct Place {
    device: SyncDevice,
    uplink: Arc<Uplink>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("uplink", &self.uplink).finish_non_exhaustive()
    }
}

impl Internet {
    /// One without hosts, whose chances follow from `seed`.
    pub(super) fn new(seed: u64) -> Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { places: Arc::default(), threads: Mutex::default(), stop: Arc::new(stop), seed })
    }

    /// Gives a host a device to the internet, with an address in this network and everything routed there.
    pub(super) fn join(&self, host: &Namespace, address: Ipv4Addr) -> Result<Arc<Uplink>> {
        let device = host.enter(|| {
            let device = DeviceBuilder::new().name(DEVICE).mtu(USUAL_MTU).tx_queue_len(DEVICE_QUEUE_PACKETS);
            let device = device.build_sync().context("cannot open /dev/net/tun")?;
            device.set_nonblocking(true)?;
            Ok(device)
        })?;
        host.configure(&format!(
            "address add {address}/24 dev {DEVICE}\nlink set {DEVICE} up\nroute add default dev {DEVICE}\n"
        ))?;
        let network = network_of(address);
        let seed = self.seed.wrapping_add(u64::from(u32::from(address)));
        let place = Arc::new(Place { device, uplink: Arc::new(Uplink::new(network, seed)) });
        let uplink = place.uplink.clone();
        self.places.0.write().unwrap_or_else(PoisonError::into_inner).insert(network, place.clone());
        let mut carrier =
            Carrier { place, places: self.places.clone(), waiting: BinaryHeap::new(), number: 0 };
        let stop = self.stop.clone();
        let thread = thread::Builder::new().name(format!("from {address}")).spawn(move || {
            if let Err(error) = carrier.run(&stop) {
                // The scenario will miss its packets; this says why.
                eprintln!("the lab's internet from {address} broke: {error}");
            }
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(uplink)
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        // Never read, so that it wakes all of them.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }
}

pub(super) fn network_of(address: Ipv4Addr) -> Network {
    let [first, second, third, _] = address.octets();
    [first, second, third]
}

/// A packet on its way.
struct OnItsWay {
    due: Instant,
    /// Packets of the same time keep their order.
    number: u64,
    bytes: Vec<u8>,
    to: Arc<Place>,
}

impl PartialEq for OnItsWay {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OnItsWay {}

impl PartialOrd for OnItsWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OnItsWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// Carries what one host sends.
struct Carrier {
    place: Arc<Place>,
    places: Arc<Places>,
    waiting: BinaryHeap<Reverse<OnItsWay>>,
    number: u64,
}

impl Carrier {
    fn run(&mut self, stop: &OwnedFd) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let next = self.deliver_due();
            let timeout = next.map(|due| due.saturating_duration_since(Instant::now()));
            let place = self.place.clone();
            let mut events = [PollFd::new(&place.device, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut events, timeout.and_then(|timeout| Timespec::try_from(timeout).ok()).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !events[1].revents().is_empty() {
                return Ok(());
            }
            for _ in 0..AT_ONCE {
                match place.device.recv(&mut buffer) {
                    Ok(len) => self.take(&buffer[..len]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Delivers what is due, and says when the next one is.
    fn deliver_due(&mut self) -> Option<Instant> {
        while let Some(Reverse(first)) = self.waiting.peek() {
            if first.due > Instant::now() {
                return Some(first.due);
            }
            if let Some(Reverse(packet)) = self.waiting.pop()
                && !self.place.uplink.is_cut_between(&packet.to.uplink)
            {
                deliver(&packet.to, &packet.bytes);
            }
        }
        None
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(packet) = Packet::read(bytes) else { return };
        let places = self.places.0.read().unwrap_or_else(PoisonError::into_inner);
        // As on the real one, addresses of nobody are silent.
        let Some(to) = places.get(&network_of(packet.destination)).cloned() else { return };
        drop(places);
        let now = Instant::now();
        let mut fate = self.place.uplink.decide(Direction::Up, &packet, now);
        if let Fate::Through(time) = fate {
            fate = to.uplink.decide(Direction::Down, &packet, time);
        }
        match fate {
            Fate::Lost => {}
            Fate::Refused(refusal) => deliver(&self.place, &refusal.answer(&packet)),
            // What waits goes first, or it would be overtaken.
            Fate::Through(due) if due <= now && self.waiting.is_empty() => deliver(&to, bytes),
            Fate::Through(due) => {
                self.number += 1;
                self.waiting.push(Reverse(OnItsWay { due, number: self.number, bytes: bytes.to_vec(), to }));
            }
        }
    }
}

fn deliver(to: &Place, bytes: &[u8]) {
    // A host that is being torn down takes nothing any more.
    let _ = to.device.send(bytes);
}
