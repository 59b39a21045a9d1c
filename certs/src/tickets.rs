//! TLS session tickets that every relay of a cluster can read.
//!
//! A relay that is alone remembers its sessions; behind a balancer the next connection of a peer may come to another
//! relay. So with a cluster's secret the session goes into the ticket (RFC 8446 section 4.6.1), encrypted and
//! authenticated with AES-256-GCM-SIV, and nothing is remembered.
//!
//! Time is cut into epochs of six hours, each with a key of its own that is derived from the secret, so that relays
//! need not tell each other keys. A ticket is good in its epoch and the next: at least six hours, at most twelve. GCM-SIV
//! because many relays choose nonces at random under one key: when two are the same it gives away only whether the
//! tickets are too.
//!
//! What the secret is worth: with it, recorded tickets can be read (who has shown which certificate) and sessions be
//! resumed in a peer's place or the relay's, for as long as the tickets are good. Recorded traffic cannot be read with
//! it, because rustls resumes with a new key exchange always. No ticket allows early data (0-RTT).
//!
//! The peer's certificates are in the ticket. A handshake that resumes does not verify them, so whoever is to be believed
//! is asked for again afterwards: [`ClientAuthority::verify`](crate::ClientAuthority::verify).

use crate::secret::Secret;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long one key makes tickets.
const EPOCH: Duration = Duration::from_hours(6);
/// How far the clocks of two relays may be apart for each to take all tickets of the other.
const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// What a session may be long, nearly all of it the peer's certificates. A longer one gets no ticket.
const MAX_SESSION_BYTES: usize = 16 * 1024;
/// The number of the epoch, in front of the nonce.
const EPOCH_BYTES: usize = 4;

/// Makes and reads tickets: `epoch (32 bits, big-endian) · nonce · sealed session`.
pub(crate) struct Tickets(Secret);

impl Tickets {
    /// Tickets of connections with this purpose, which others do not take.
    pub(crate) fn of(secret: &Secret, purpose: &str) -> Self {
        Self(Secret::derived(secret, &format!("tls tickets for {purpose}")))
    }

    fn encrypt_at(&self, session: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        if session.len() > MAX_SESSION_BYTES {
            return None;
        }
        let epoch = epoch(now)?;
        let mut sealed = session.to_vec();
        let nonce = self.key(epoch)?.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        Some([&epoch.to_be_bytes()[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt_at(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (epoch_made, sealed) = ticket.split_first_chunk::<EPOCH_BYTES>()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let made = u32::from_be_bytes(*epoch_made);
        let good = epoch(now)?.saturating_sub(1)..=epoch(now + CLOCK_SKEW)?;
        if !good.contains(&made) || sealed.len() > MAX_SESSION_BYTES + AES_256_GCM_SIV.tag_len() {
            return None;
        }
        let mut session = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        Some(self.key(made)?.open_in_place(nonce, Aad::empty(), &mut session).ok()?.to_vec())
    }

    fn key(&self, epoch: u32) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM_SIV, &self.0.derive(&format!("epoch {epoch}"))).ok()
    }
}

/// The number of epochs since 1970.
fn epoch(now: SystemTime) -> Option<u32> {
    let seconds = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    u32::try_from(seconds / EPOCH.as_secs()).ok()
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// What is certain even when the next relay's clock is ahead.
    fn lifetime(&self) -> u32 {
        u32::try_from(EPOCH.as_secs() - CLOCK_SKEW.as_secs()).unwrap_or(0)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, SystemTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(cipher, SystemTime::now())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &[u8] = b"a session";

    fn tickets(secret: u8) -> Tickets {
        Tickets::of(&Secret::of_cluster([secret; 32]), "quic")
    }

    /// The beginning of some epoch.
    fn start() -> SystemTime {
        UNIX_EPOCH + EPOCH * 80_000
    }

    #[test]
    fn another_relay_with_the_secret_reads_a_ticket_and_no_other_does() {
        let ticket = tickets(1).encrypt_at(SESSION, start()).unwrap();
        assert_eq!(tickets(1).decrypt_at(&ticket, start()).as_deref(), Some(SESSION));
        assert_eq!(tickets(2).decrypt_at(&ticket, start()), None);
        let other_purpose = Tickets::of(&Secret::of_cluster([1; 32]), "tcp");
        assert_eq!(other_purpose.decrypt_at(&ticket, start()), None);
        assert_ne!(tickets(1).encrypt_at(SESSION, start()).unwrap(), ticket, "sealed with another nonce");
    }

    #[test]
    fn tickets_are_good_in_their_epoch_and_the_next() {
        let second = Duration::from_secs(1);
        for made in [start(), start() + EPOCH - second] {
            let ticket = tickets(1).encrypt_at(SESSION, made).unwrap();
            let reads = |at| tickets(1).decrypt_at(&ticket, at).is_some();
            assert!(reads(made) && reads(start() + EPOCH * 2 - second));
            assert!(!reads(start() + EPOCH * 2));
            assert!(reads(start() - CLOCK_SKEW), "made by a relay whose clock is ahead");
            assert!(!reads(start() - CLOCK_SKEW - second));
        }
        let lifetime = Duration::from_secs(tickets(1).lifetime().into());
        assert_eq!(lifetime + CLOCK_SKEW, EPOCH);
    }

    #[test]
    fn damaged_tickets_and_any_other_bytes_are_none() {
        let ticket = tickets(1).encrypt_at(SESSION, start()).unwrap();
        for length in 0..ticket.len() {
            assert_eq!(tickets(1).decrypt_at(&ticket[..length], start()), None, "{length} bytes");
        }
        for place in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[place] ^= 1;
            assert_eq!(tickets(1).decrypt_at(&damaged, start()), None, "byte {place}");
        }
        assert_eq!(tickets(1).decrypt_at(&ticket, UNIX_EPOCH - EPOCH), None, "a clock before 1970");
        assert_eq!(tickets(1).encrypt_at(SESSION, UNIX_EPOCH - EPOCH), None);
    }

    #[test]
    fn long_sessions_get_no_ticket() {
        let most = vec![7; MAX_SESSION_BYTES];
        let ticket = tickets(1).encrypt_at(&most, start()).unwrap();
        assert_eq!(tickets(1).decrypt_at(&ticket, start()), Some(most));
        assert_eq!(tickets(1).encrypt_at(&vec![7; MAX_SESSION_BYTES + 1], start()), None);
        assert_eq!(tickets(1).decrypt_at(&[&ticket[..], &[0]].concat(), start()), None);
    }
}
