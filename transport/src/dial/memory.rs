//! Which carrier was ready first the last time, per network and relay.
//!
//! It decides only who gets the head start, so a memory that is wrong, lost or damaged costs one head start at most, and
//! no trouble with its file is worth more than a line in the debug log.

use crate::link::Carrier;
use converge_proto::RelayUrl;
use ipnet::IpNet;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is remembered; what was noted first goes first.
const MAX_ENTRIES: usize = 64;
/// More of a file is not read: [`MAX_ENTRIES`] lines with names of the longest kind.
const MAX_FILE_BYTES: u64 = 32 * 1024;

/// What this host's address towards a relay has in common with its neighbours': its first 24 bits, or 64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocalNetwork(IpNet);

impl LocalNetwork {
    /// The network from which packets to anywhere would leave: for a relay whose address only a proxy knows.
    pub(super) fn of_the_default_route() -> Option<Self> {
        // An address that nobody has (RFC 5737), so it is nobody's neighbour.
        Self::towards((Ipv4Addr::new(192, 0, 2, 1), 9).into())
    }

    /// The network from which packets to `remote` would leave. Sends none.
    pub(super) fn towards(remote: SocketAddr) -> Option<Self> {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(remote).ok()?;
        let local = socket.local_addr().ok()?.ip().to_canonical();
        let prefix = if local.is_ipv4() { 24 } else { 64 };
        IpNet::new(local, prefix).ok().map(|network| Self(network.trunc()))
    }
}

/// The memory of a process, or of a user.
#[derive(Debug)]
pub struct CarrierMemory {
    file: Option<PathBuf>,
    /// `None` until the file has been read.
    table: Mutex<Option<Table>>,
}

impl CarrierMemory {
    /// A memory that ends with the process.
    pub fn in_process() -> Self {
        Self { file: None, table: Mutex::new(Some(Table::default())) }
    }

    /// A memory that is kept in this file, which is read when it is first needed and need not exist. It holds at most
    /// 64 lines, and only its owner can read it.
    pub fn kept_in(file: PathBuf) -> Self {
        Self { file: Some(file), table: Mutex::new(None) }
    }

    /// The carrier that was ready first the last time.
    pub(super) fn recall(&self, network: LocalNetwork, relay: &RelayUrl) -> Option<Carrier> {
        self.table().as_ref().and_then(|table| table.find(network, &key(relay)))
    }

    /// Notes which carrier was ready first. Returns whether that is news, which [`keep`](Self::keep) then writes down.
    pub(super) fn note(&self, network: LocalNetwork, relay: &RelayUrl, carrier: Carrier) -> bool {
        self.table().as_mut().is_some_and(|table| table.note(network, &key(relay), carrier))
    }

    /// Writes one line of the memory into its file, if it has one, beside what other processes have written there
    /// meanwhile. Blocks for as long as the file system does.
    pub(super) fn keep(&self, network: LocalNetwork, relay: &RelayUrl, carrier: Carrier) {
        let Some(file) = &self.file else { return };
        let mut table = Table::read(file);
        if table.note(network, &key(relay), carrier)
            && let Err(error) = write_atomically(file, &table.to_text())
        {
            tracing::debug!(%error, file = %file.display(), "the carrier is not remembered");
        }
    }

    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.is_none() {
            *table = Some(self.file.as_deref().map(Table::read).unwrap_or_default());
        }
        table
    }
}

fn key(relay: &RelayUrl) -> String {
    format!("{}:{}", relay.host(), relay.port())
}

/// Readable and writable by the owner only; no reader sees half of it.
fn write_atomically(file: &Path, contents: &str) -> io::Result<()> {
    let directory = file.parent().ok_or_else(|| io::Error::other("it is in no directory"))?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    let mut beside = tempfile::NamedTempFile::new_in(directory)?;
    beside.write_all(contents.as_bytes())?;
    beside.persist(file).map(drop).map_err(Into::into)
}

/// The lines, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table(Vec<Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    network: IpNet,
    relay: String,
    carrier: Carrier,
}

impl Table {
    fn find(&self, network: LocalNetwork, relay: &str) -> Option<Carrier> {
        self.0.iter().find(|entry| entry.is_of(network, relay)).map(|entry| entry.carrier)
    }

    /// Returns whether anything is different now.
    fn note(&mut self, network: LocalNetwork, relay: &str, carrier: Carrier) -> bool {
        if self.find(network, relay) == Some(carrier) {
            return false;
        }
        self.0.retain(|entry| !entry.is_of(network, relay));
        self.0.push(Entry { network: network.0, relay: relay.to_owned(), carrier });
        let too_many = self.0.len().saturating_sub(MAX_ENTRIES);
        self.0.drain(..too_many);
        true
    }

    fn read(file: &Path) -> Self {
        let reading = fs::File::open(file).and_then(|file| {
            let mut text = String::new();
            file.take(MAX_FILE_BYTES).read_to_string(&mut text).map(|_| text)
        });
        match reading {
            Ok(text) => Self::from_text(&text),
            Err(error) => {
                tracing::debug!(%error, file = %file.display(), "no carriers are remembered");
                Self::default()
            }
        }
    }

    /// One entry a line: `192.0.2.0/24 relay.example:443 websocket`. Lines that say something else say nothing.
    fn from_text(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some((network, relay, carrier)) = Entry::fields(line) {
                table.note(LocalNetwork(network), relay, carrier);
            }
        }
        table
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for Entry { network, relay, carrier } in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{network} {relay} {carrier}");
        }
        text
    }
}

impl Entry {
    fn is_of(&self, network: LocalNetwork, relay: &str) -> bool {
        self.network == network.0 && self.relay == relay
    }

    fn fields(line: &str) -> Option<(IpNet, &str, Carrier)> {
        let mut words = line.split(' ');
        let (network, relay, carrier) = (words.next()?, words.next()?, words.next()?);
        let carrier =
            [Carrier::Quic, Carrier::WebSocket].into_iter().find(|known| known.to_string() == carrier)?;
        let is_whole = words.next().is_none() && !relay.is_empty();
        is_whole.then_some((network.parse().ok()?, relay, carrier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> LocalNetwork {
        LocalNetwork(text.parse().unwrap())
    }

    fn relay(number: usize) -> RelayUrl {
        format!("https://relay{number}.example").parse().unwrap()
    }

    #[test]
    fn carrier_is_remembered_per_network_and_relay() {
        let memory = CarrierMemory::in_process();
        let (home, office) = (network("192.0.2.0/24"), network("2001:db8::/64"));
        assert_eq!(memory.recall(home, &relay(0)), None);
        assert!(memory.note(home, &relay(0), Carrier::WebSocket));
        assert!(!memory.note(home, &relay(0), Carrier::WebSocket), "that is no news");
        assert_eq!(memory.recall(home, &relay(0)), Some(Carrier::WebSocket));
        assert_eq!(memory.recall(office, &relay(0)), None);
        assert_eq!(memory.recall(home, &relay(1)), None);
        assert!(memory.note(home, &relay(0), Carrier::Quic));
        assert_eq!(memory.recall(home, &relay(0)), Some(Carrier::Quic));
    }

    #[test]
    fn what_was_noted_first_goes_first() {
        let (memory, home) = (CarrierMemory::in_process(), network("192.0.2.0/24"));
        for number in 0..MAX_ENTRIES {
            memory.note(home, &relay(number), Carrier::Quic);
        }
        assert!(memory.recall(home, &relay(0)).is_some());
        memory.note(home, &relay(MAX_ENTRIES), Carrier::Quic);
        assert_eq!(memory.recall(home, &relay(0)), None);
        assert!(memory.recall(home, &relay(1)).is_some());
    }

    #[test]
    fn file_is_kept_for_the_next_process_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("converge").join("carriers");
        let home = network("192.0.2.0/24");
        let (one, two) = (CarrierMemory::kept_in(file.clone()), CarrierMemory::kept_in(file.clone()));
        for (memory, number) in [(&one, 1), (&two, 2)] {
            assert!(memory.note(home, &relay(number), Carrier::WebSocket));
            memory.keep(home, &relay(number), Carrier::WebSocket);
        }
        let next = CarrierMemory::kept_in(file.clone());
        assert_eq!(
            next.recall(home, &relay(1)),
            Some(Carrier::WebSocket),
            "the second writer keeps the first's"
        );
        assert_eq!(next.recall(home, &relay(2)), Some(Carrier::WebSocket));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn damaged_file_says_what_is_still_readable() {
        let text = "192.0.2.0/24 relay1.example:443 websocket\n\
                    192.0.2.0/24 relay2.example:443 pigeon\n\
                    not a network relay3.example:443 quic\n\
                    192.0.2.0/24 relay4.example:443 quic and more\n\
                    192.0.2.0/24\n\n\0\n\
                    192.0.2.0/24 relay5.example:443 quic";
        let table = Table::from_text(text);
        assert_eq!(
            table.to_text(),
            "192.0.2.0/24 relay1.example:443 websocket\n192.0.2.0/24 relay5.example:443 quic\n"
        );
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("carriers");
        fs::write(&file, [0xff; 100]).unwrap();
        assert_eq!(Table::read(&file), Table::default(), "not even text");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        CarrierMemory::kept_in(file).keep(network("192.0.2.0/24"), &relay(0), Carrier::Quic);
    }

    #[test]
    fn loopback_has_a_network() {
        let network = LocalNetwork::towards((Ipv4Addr::LOCALHOST, 9).into()).unwrap();
        assert_eq!(network.0.to_string(), "127.0.0.0/24");
    }
}
