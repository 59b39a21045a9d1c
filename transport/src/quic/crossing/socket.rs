//! The socket between quinn and the real one.

use super::{Answer, Fate, Forwarded, Shared, Stray, lock, synthetic::is_synthetic, whose::chosen_by_relay};
use crate::quic::CONNECTION_ID_BYTES;
use bytes::Bytes;
use converge_proto::RelayNumber;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// Takes strays out of what is received, puts in what other relays have received, and gives them what is for peers
/// there.
pub(in crate::quic) struct CrossingSocket {
    real: Arc<dyn AsyncUdpSocket>,
    shared: Arc<Shared>,
    /// Whether the real socket is asked first the next time: the two take turns, so that neither starves the other.
    real_first: AtomicBool,
}

impl CrossingSocket {
    pub(super) fn new(real: Arc<dyn AsyncUdpSocket>, shared: Arc<Shared>) -> Self {
        Self { real, shared, real_first: AtomicBool::new(true) }
    }

    fn poll_real(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.real.poll_recv(context, buffers, meta);
        if let Poll::Ready(Ok(received)) = polled {
            let mut known = Known::default();
            for (buffer, meta) in buffers.iter_mut().zip(meta).take(received) {
                self.sift(buffer, meta, &mut known);
            }
        }
        polled
    }

    /// Leaves in the buffer what is for quinn. A buffer may hold several datagrams of one peer, all but the last of the
    /// same length, and still does so afterwards; it may be left empty.
    fn sift(&self, buffer: &mut [u8], meta: &mut RecvMeta, known: &mut Known) {
        let (received, stride) = (meta.len.min(buffer.len()), meta.stride.max(1));
        let (mut read, mut kept) = (0, 0);
        // Such an address belongs to nobody: whoever uses it wants to be somebody else.
        let forged = is_synthetic(meta.addr);
        while read < received && !forged {
            let end = received.min(read + stride);
            let datagram = buffer.get(read..end).unwrap_or_default();
            if !self.takes(datagram, meta, known) {
                buffer.copy_within(read..end, kept);
                kept += end - read;
            }
            read = end;
        }
        meta.len = kept;
    }

    /// Whether this datagram is a stray that is carried to its relay.
    fn takes(&self, datagram: &[u8], meta: &RecvMeta, known: &mut Known) -> bool {
        let Some(relay) = known.whose(datagram, &self.shared) else { return false };
        if relay == self.shared.number {
            return false;
        }
        let stray = Stray { relay, from: meta.addr, bytes: datagram };
        if self.shared.strays.stray(stray) == Fate::NotWanted {
            return false;
        }
        lock(&self.shared.visitors).insert(meta.addr, meta.dst_ip);
        true
    }

    /// What other relays have received, one datagram per buffer.
    fn poll_delivered(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut delivered = lock(&self.shared.delivered);
        let mut filled = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Poll::Ready(Some(Forwarded { via, from, bytes })) = delivered.poll_recv(context) else {
                break;
            };
            let addr = lock(&self.shared.synthetic).address_of((via, from));
            // Nothing of one that is larger than quinn ever takes.
            let room = buffer.get_mut(..bytes.len());
            let len = room.map_or(0, |room| {
                room.copy_from_slice(&bytes);
                bytes.len()
            });
            *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
            filled += 1;
        }
        if filled == 0 { Poll::Pending } else { Poll::Ready(filled) }
    }

    /// Gives away what is for a peer at another relay.
    fn answer(&self, transmit: &Transmit<'_>) {
        // Forgotten: its next packet gets it another address.
        let Some((via, to)) = lock(&self.shared.synthetic).peer_at(transmit.destination) else { return };
        let length = transmit.segment_size.unwrap_or(transmit.contents.len());
        for datagram in transmit.contents.chunks(length.max(1)) {
            self.shared.strays.answer(Answer { via, to, bytes: Bytes::copy_from_slice(datagram) });
        }
    }
}

/// The last connection ID that was read and what it said: most datagrams come in trains of the same connection.
#[derive(Default)]
struct Known(Option<([u8; CONNECTION_ID_BYTES], Option<RelayNumber>)>);

impl Known {
    fn whose(&mut self, datagram: &[u8], shared: &Shared) -> Option<RelayNumber> {
        let id = chosen_by_relay(datagram)?;
        match self.0 {
            Some((known, relay)) if known == *id => relay,
            _ => {
                let relay = shared.cids.decode(id);
                self.0 = Some((*id, relay));
                relay
            }
        }
    }
}

impl fmt::Debug for CrossingSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.real.fmt(f)
    }
}

impl AsyncUdpSocket for CrossingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.real.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if is_synthetic(transmit.destination) {
            self.answer(transmit);
            return Ok(());
        }
        self.real.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.real_first.fetch_xor(true, Ordering::Relaxed) {
            let polled = self.poll_real(context, buffers, meta);
            if polled.is_ready() {
                return polled;
            }
            return self.poll_delivered(context, buffers, meta).map(Ok);
        }
        if let Poll::Ready(filled) = self.poll_delivered(context, buffers, meta) {
            return Poll::Ready(Ok(filled));
        }
        self.poll_real(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.real.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.real.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.real.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.real.may_fragment()
    }
}

#[cfg(test)]
mod tests;
