use super::*;
use crate::quic::{
    CidFormat, ClusterCids, Crossing, MTU_UPPER_BOUND, NONCE_BYTES, Protection, Rotation, Strays,
};
use std::{collections::VecDeque, net::IpAddr, sync::Mutex, task::Waker};

const PEER: &str = "192.0.2.7:4000";

/// A train of datagrams as the kernel gives it: from whom, their length but for the last, all bytes.
type Train = (SocketAddr, usize, Vec<u8>);

/// A datagram that was sent: to whom, its bytes, from which address of ours.
type Sent = (SocketAddr, Vec<u8>, Option<IpAddr>);

/// A socket that has received these trains and remembers what is sent.
#[derive(Debug, Default)]
struct Real {
    received: Mutex<VecDeque<Train>>,
    sent: Mutex<Vec<Sent>>,
}

impl AsyncUdpSocket for Real {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        panic!("nothing here waits to send")
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        lock(&self.sent).push((transmit.destination, transmit.contents.to_vec(), transmit.src_ip));
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((addr, stride, bytes)) = lock(&self.received).pop_front() else { break };
            buffer[..bytes.len()].copy_from_slice(&bytes);
            (meta.addr, meta.len, meta.stride) = (addr, bytes.len(), stride);
            meta.dst_ip = Some("192.0.2.1".parse().unwrap());
            filled += 1;
        }
        if filled == 0 { Poll::Pending } else { Poll::Ready(Ok(filled)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok("192.0.2.1:443".parse().unwrap())
    }
}

/// Remembers all strays and answers, and takes those of relay 2.
#[derive(Debug, Default)]
struct Noted {
    strays: Mutex<Vec<(RelayNumber, SocketAddr, Vec<u8>)>>,
    answers: Mutex<Vec<Answer>>,
}

impl Strays for Noted {
    fn stray(&self, Stray { relay, from, bytes }: Stray<'_>) -> Fate {
        lock(&self.strays).push((relay, from, bytes.to_vec()));
        if relay == number(2) { Fate::Taken } else { Fate::NotWanted }
    }

    fn answer(&self, answer: Answer) {
        lock(&self.answers).push(answer);
    }
}

struct Relay {
    crossing: Crossing,
    noted: Arc<Noted>,
    real: Arc<Real>,
    socket: Arc<dyn AsyncUdpSocket>,
}

impl Relay {
    /// Relay 1.
    fn new() -> Self {
        let (noted, real) = (Arc::new(Noted::default()), Arc::new(Real::default()));
        let crossing = Crossing::new(number(1), cids(), noted.clone());
        let socket = crossing.socket(real.clone()).unwrap();
        Self { crossing, noted, real, socket }
    }

    /// What quinn gets when it asks once, datagram by datagram.
    fn poll(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut storage = vec![vec![0; 64 * 1024]; 4];
        let mut buffers: Vec<_> = storage.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let mut meta = [RecvMeta::default(); 4];
        let polled = self.socket.poll_recv(&mut Context::from_waker(Waker::noop()), &mut buffers, &mut meta);
        let Poll::Ready(received) = polled else { return Vec::new() };
        let mut datagrams = Vec::new();
        for (buffer, meta) in buffers.iter().zip(meta).take(received.unwrap()) {
            let trains = buffer[..meta.len].chunks(meta.stride.max(1));
            datagrams.extend(trains.map(|datagram| (meta.addr, datagram.to_vec())));
        }
        datagrams
    }

    fn receives(&self, from: &str, stride: usize, datagrams: &[Vec<u8>]) {
        lock(&self.real.received).push_back((from.parse().unwrap(), stride, datagrams.concat()));
    }
}

fn number(number: u16) -> RelayNumber {
    RelayNumber::new(number).unwrap()
}

fn cids() -> ClusterCids {
    let protection = Protection::Encrypted { key: [3; 16] };
    ClusterCids::new(CidFormat { rotation: Rotation::default(), protection }).unwrap()
}

/// A short-header packet for this relay.
fn packet(relay: u16, length: usize) -> Vec<u8> {
    let id = cids().encode(number(relay), [8; NONCE_BYTES]).unwrap();
    let mut packet = [&[0x40][..], &id].concat();
    packet.resize(length, u8::try_from(relay).unwrap());
    packet
}

fn forwarded(bytes: Vec<u8>) -> Forwarded {
    Forwarded { via: number(2), from: PEER.parse().unwrap(), bytes: bytes.into() }
}

#[test]
fn strays_are_taken_out_wherever_in_a_train_they_are() {
    let relay = Relay::new();
    let (ours, strays, unknown) = (packet(1, 50), packet(2, 50), packet(3, 50));
    let (our_last, stray_last) = (packet(1, 30), packet(2, 30));
    for (train, left) in [
        (vec![&ours, &ours, &our_last], vec![&ours, &ours, &our_last]),
        (vec![&strays, &ours, &strays, &our_last], vec![&ours, &our_last]),
        (vec![&ours, &strays, &ours, &stray_last], vec![&ours, &ours]),
        (vec![&strays, &stray_last], vec![]),
        (vec![&strays, &unknown, &our_last], vec![&unknown, &our_last]),
        (vec![&our_last], vec![&our_last]),
    ] {
        let train: Vec<_> = train.into_iter().cloned().collect();
        relay.receives(PEER, 50, &train);
        let mut got = relay.poll();
        if got.is_empty() {
            // The turn of what was delivered.
            got = relay.poll();
        }
        let left: Vec<_> =
            left.into_iter().map(|datagram| (PEER.parse().unwrap(), datagram.clone())).collect();
        assert_eq!(got, left, "of {train:?}");
    }
    let noted = lock(&relay.noted.strays);
    let offered = |number: u16| noted.iter().filter(|(relay, ..)| relay.get() == number).count();
    assert_eq!((offered(1), offered(2), offered(3)), (0, 7, 1));
    assert!(noted.iter().all(|(_, from, _)| *from == PEER.parse().unwrap()));
}

#[test]
fn beginnings_of_connections_are_nobodys() {
    let relay = Relay::new();
    let id = cids().encode(number(2), [8; NONCE_BYTES]).unwrap();
    let initial = [&[0xc3, 0, 0, 0, 1, 17][..], &id, b"token and all"].concat();
    relay.receives(PEER, initial.len(), std::slice::from_ref(&initial));
    assert_eq!(relay.poll(), [(PEER.parse().unwrap(), initial)]);
    assert!(lock(&relay.noted.strays).is_empty());
}

#[test]
fn synthetic_addresses_are_believed_of_nobody() {
    let relay = Relay::new();
    relay.receives("[fd6b:3f1e:9ac4:2::1]:4000", 50, &[packet(1, 50), packet(2, 50)]);
    assert!(relay.poll().is_empty());
    assert!(lock(&relay.noted.strays).is_empty());
}

#[test]
fn delivered_datagrams_come_from_an_address_that_leads_back() {
    let relay = Relay::new();
    assert!(relay.crossing.deliver(forwarded(packet(1, 50))));
    let (address, datagram) = relay.poll().remove(0);
    assert_eq!(datagram, packet(1, 50));
    assert!(is_synthetic(address));
    assert_eq!(relay.crossing.origin(address), Some((number(2), PEER.parse().unwrap())));
    assert_eq!(relay.crossing.origin(PEER.parse().unwrap()), None);

    let contents: Vec<_> = (0..25).collect();
    let transmit = Transmit {
        destination: address,
        ecn: None,
        contents: &contents,
        segment_size: Some(10),
        src_ip: None,
    };
    relay.socket.try_send(&transmit).unwrap();
    let answers = lock(&relay.noted.answers);
    let sizes: Vec<_> = answers.iter().map(|answer| answer.bytes.len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(answers.iter().flat_map(|answer| answer.bytes.clone()).collect::<Vec<_>>(), contents);
    assert!(answers.iter().all(|answer| (answer.via, answer.to) == (number(2), PEER.parse().unwrap())));
    assert!(lock(&relay.real.sent).is_empty(), "not by the real socket");
}

#[test]
fn only_what_is_for_this_relay_is_delivered_and_only_so_much() {
    let relay = Relay::new();
    let most = usize::from(MTU_UPPER_BOUND);
    for wrong in [packet(2, 50), packet(1, most + 1), b"nothing".to_vec(), Vec::new()] {
        assert!(!relay.crossing.deliver(forwarded(wrong)));
    }
    let taken = (0..5000).filter(|_| relay.crossing.deliver(forwarded(packet(1, most)))).count();
    assert_eq!(taken, super::super::MAX_WAITING);
}

#[test]
fn neither_side_starves_the_other() {
    let relay = Relay::new();
    for _ in 0..20 {
        assert!(relay.crossing.deliver(forwarded(packet(1, 50))));
        relay.receives(PEER, 50, &[packet(1, 50)]);
    }
    let sources: Vec<_> = (0..4).map(|_| is_synthetic(relay.poll()[0].0)).collect();
    assert_eq!(sources.iter().filter(|synthetic| **synthetic).count(), 2, "{sources:?}");
}

#[test]
fn answers_go_only_to_those_whose_strays_were_taken() {
    let relay = Relay::new();
    let peer = PEER.parse().unwrap();
    assert!(!relay.crossing.send_answer(peer, b"answer"));
    relay.receives(PEER, 50, &[packet(3, 50)]);
    relay.poll();
    assert!(!relay.crossing.send_answer(peer, b"answer"), "its strays were not taken");
    relay.receives(PEER, 50, &[packet(2, 50)]);
    relay.poll();
    relay.poll();
    assert!(relay.crossing.send_answer(peer, b"answer"));
    let sent = lock(&relay.real.sent);
    assert_eq!(*sent, [(peer, b"answer".to_vec(), Some("192.0.2.1".parse().unwrap()))]);
}

#[test]
fn a_crossing_serves_one_endpoint() {
    let relay = Relay::new();
    let error = relay.crossing.socket(Arc::new(Real::default())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}
