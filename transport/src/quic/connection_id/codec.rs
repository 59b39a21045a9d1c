//! Connection IDs that a load balancer can read: draft-ietf-quic-load-balancers-21, section 5.
//!
//! A connection ID is a first octet (three bits of config rotation, five bits with the length of what follows) and a
//! block of server ID and nonce. With a key the block is encrypted with AES-128, in a single pass when it is as long as
//! an AES block and else in four passes of a Feistel network. Nothing here reads a clock, a socket or randomness.

use super::KEY_BYTES;
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};

/// What QUIC version 1 leaves for the block: 20 octets less the first one.
const MAX_BLOCK_BYTES: usize = 19;
const MIN_SERVER_ID_BYTES: usize = 1;
const MIN_NONCE_BYTES: usize = 4;
/// The block length at which one pass of AES does it all.
const AES_BLOCK_BYTES: usize = 16;
/// Below the config rotation, in the first octet.
const LENGTH_BITS: u32 = 5;
/// The config rotation that means "by addresses, not by connection ID".
const NOT_ROUTED: u8 = 0b111;

/// One configuration of the draft. All relays and balancers that share it read each other's connection IDs.
pub(super) struct Codec {
    rotation: u8,
    server_id_bytes: usize,
    block_bytes: usize,
    cipher: Option<Cipher>,
}

impl Codec {
    /// `None` for what the draft does not allow: a rotation above 6, or lengths out of its bounds.
    pub(super) fn new(
        rotation: u8,
        server_id_bytes: usize,
        nonce_bytes: usize,
        key: Option<&[u8; KEY_BYTES]>,
    ) -> Option<Self> {
        let block_bytes = server_id_bytes.checked_add(nonce_bytes)?;
        let fits = rotation < NOT_ROUTED
            && server_id_bytes >= MIN_SERVER_ID_BYTES
            && nonce_bytes >= MIN_NONCE_BYTES
            && block_bytes <= MAX_BLOCK_BYTES;
        let cipher = match key {
            Some(key) => Some(Cipher::new(key)?),
            None => None,
        };
        fits.then_some(Self { rotation, server_id_bytes, block_bytes, cipher })
    }

    /// Of a whole connection ID.
    pub(super) fn len(&self) -> usize {
        1 + self.block_bytes
    }

    /// The connection ID of this server with this nonce; `None` when they have not the configured lengths.
    pub(super) fn encode(&self, server_id: &[u8], nonce: &[u8]) -> Option<Vec<u8>> {
        let block = [server_id, nonce].concat();
        if server_id.len() != self.server_id_bytes || block.len() != self.block_bytes {
            return None;
        }
        let block = match &self.cipher {
            None => block,
            Some(cipher) => cipher.encrypt(&block)?,
        };
        let mut id = Vec::with_capacity(self.len());
        id.push(self.first_octet()?);
        id.extend(block);
        Some(id)
    }

    /// The server ID; `None` for what is not of this configuration. What is has no checksum: by chance, one in 256 of all
    /// other IDs of this length has the right first octet.
    pub(super) fn decode(&self, id: &[u8]) -> Option<Vec<u8>> {
        let (&first, block) = id.split_first()?;
        if first != self.first_octet()? || block.len() != self.block_bytes {
            return None;
        }
        let mut block = match &self.cipher {
            None => block.to_vec(),
            Some(cipher) => cipher.decrypt(block)?,
        };
        block.truncate(self.server_id_bytes);
        Some(block)
    }

    fn first_octet(&self) -> Option<u8> {
        Some(self.rotation << LENGTH_BITS | u8::try_from(self.block_bytes).ok()?)
    }
}

struct Cipher {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl Cipher {
    fn new(key: &[u8; KEY_BYTES]) -> Option<Self> {
        let unbound = || UnboundCipherKey::new(&AES_128, key);
        let encrypting = EncryptingKey::ecb(unbound().ok()?).ok()?;
        let decrypting = DecryptingKey::ecb(unbound().ok()?).ok()?;
        Some(Self { encrypting, decrypting })
    }

    fn encrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        if let Ok(mut block) = <[u8; AES_BLOCK_BYTES]>::try_from(block) {
            self.encrypting.encrypt(&mut block).ok()?;
            return Some(block.to_vec());
        }
        let mut halves = Halves::split(block)?;
        for pass in 1..=4 {
            halves.pass(pass, self)?;
        }
        Some(halves.join())
    }

    fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        if let Ok(mut block) = <[u8; AES_BLOCK_BYTES]>::try_from(block) {
            return Some(self.decrypting.decrypt(&mut block, DecryptionContext::None).ok()?.to_vec());
        }
        let mut halves = Halves::split(block)?;
        for pass in (1..=4).rev() {
            halves.pass(pass, self)?;
        }
        Some(halves.join())
    }

    fn block(&self, plain: u128) -> Option<u128> {
        let mut block = plain.to_be_bytes();
        self.encrypting.encrypt(&mut block).ok()?;
        Some(u128::from_be_bytes(block))
    }
}

/// A block in two halves, each in the most significant bits of its number. The middle octet of a block of odd length
/// is shared: its high bits are the left half's last, its low bits the right half's first that are not zero.
struct Halves {
    bytes: usize,
    left: u128,
    right: u128,
    left_mask: u128,
    right_mask: u128,
}

impl Halves {
    fn split(block: &[u8]) -> Option<Self> {
        let bytes = block.len();
        let bits = u32::try_from(bytes).ok()? * 4;
        let left_mask = !u128::MAX.checked_shr(bits)?;
        let right_mask = if bytes % 2 == 1 { left_mask >> 4 } else { left_mask };
        let half_bytes = bytes.div_ceil(2);
        let (left, right) = (block.get(..half_bytes)?, block.get(bytes - half_bytes..)?);
        let (left, right) = (aligned(left) & left_mask, aligned(right) & right_mask);
        Some(Self { bytes, left, right, left_mask, right_mask })
    }

    /// The draft's steps 3 to 11. A pass is undone by doing it again.
    fn pass(&mut self, pass: u8, cipher: &Cipher) -> Option<()> {
        let trailer = u128::try_from(self.bytes).ok()? << 8 | u128::from(pass);
        if pass % 2 == 1 {
            self.right ^= cipher.block(self.left | trailer)? & self.right_mask;
        } else {
            self.left ^= cipher.block(self.right | trailer)? & self.left_mask;
        }
        Some(())
    }

    fn join(&self) -> Vec<u8> {
        let half_bytes = self.bytes.div_ceil(2);
        let mut block = vec![0; self.bytes];
        let halves = [(0, self.left), (self.bytes - half_bytes, self.right)];
        for (start, half) in halves {
            for (to, from) in block.iter_mut().skip(start).zip(half.to_be_bytes()).take(half_bytes) {
                *to |= from;
            }
        }
        block
    }
}

fn aligned(half: &[u8]) -> u128 {
    let mut number = [0; 16];
    for (to, from) in number.iter_mut().zip(half) {
        *to = *from;
    }
    u128::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    fn key(hex: &str) -> [u8; KEY_BYTES] {
        bytes(hex).try_into().unwrap()
    }

    fn holds(rotation: u8, server_id: &str, nonce: &str, key: Option<[u8; KEY_BYTES]>, id: &str) {
        let (server_id, nonce) = (bytes(server_id), bytes(nonce));
        let codec = Codec::new(rotation, server_id.len(), nonce.len(), key.as_ref()).unwrap();
        assert_eq!(HEXLOWER.encode(&codec.encode(&server_id, &nonce).unwrap()), id);
        assert_eq!(codec.decode(&bytes(id)).unwrap(), server_id);
    }

    /// Appendix B.1. The second one is printed there without leading zeros of octets (nonce `3487d970b`, ID
    /// `20a350d28b4203487d970b`); the first octet of that rotation and length can only be `2a`.
    #[test]
    fn unencrypted_vectors_of_the_draft() {
        holds(0, "c4605e", "4504cc4f", None, "07c4605e4504cc4f");
        holds(1, "350d28b420", "3487d9700b", None, "2a350d28b4203487d9700b");
    }

    /// Appendix B.2. The last one is printed there with the first octet `12`, which is that of rotation 0.
    #[test]
    fn encrypted_vectors_of_the_draft() {
        let key = Some(key("8f95f09245765f80256934e50c66207f"));
        holds(0, "ed793a", "ee080dbf", key, "0720b1d07b359d3c");
        holds(1, "ed793a51d49b8f5fab65", "ee080dbf48", key, "2fcc381bc74cb4fbad2823a3d1f8fed2");
        holds(2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", key, "504dd2d05a7b0de9b2b9907afb5ecf8cc3");
        holds(3, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", key, "725779c9cc86beb3a3a4a3ca96fce4bfe0cdbc");
    }

    /// Section 5.4.2.4.
    #[test]
    fn worked_example_of_the_draft() {
        let key = key("fdf726a9893ec05c0632d3956680baf0");
        holds(0, "31441a", "9c69c275", Some(key), "0767947d29be054a");
    }

    #[test]
    fn what_the_draft_does_not_allow_is_no_codec() {
        let key = [7; KEY_BYTES];
        for (rotation, server_id, nonce) in
            [(7, 2, 14), (0, 0, 8), (0, 2, 3), (0, 10, 10), (0, usize::MAX, 4)]
        {
            assert!(
                Codec::new(rotation, server_id, nonce, Some(&key)).is_none(),
                "{rotation} {server_id} {nonce}"
            );
        }
        for (rotation, server_id, nonce) in [(6, 1, 4), (0, 15, 4), (0, 1, 18)] {
            assert!(Codec::new(rotation, server_id, nonce, None).is_some(), "{rotation} {server_id} {nonce}");
        }
    }

    #[test]
    fn other_rotations_lengths_and_keys_are_not_ours() {
        let codec = Codec::new(1, 2, 6, None).unwrap();
        let id = codec.encode(&[1, 2], &[9; 6]).unwrap();
        assert_eq!(codec.encode(&[1], &[9; 6]), None);
        assert_eq!(codec.encode(&[1, 2], &[9; 7]), None);
        assert_eq!(codec.encode(&[1, 2, 3], &[9; 5]), None);
        assert_eq!(codec.decode(&id[..8]), None);
        assert_eq!(codec.decode(&[&id[..], &[0]].concat()), None);
        assert_eq!(Codec::new(2, 2, 6, None).unwrap().decode(&id), None);
        let encrypted = |key: [u8; KEY_BYTES]| Codec::new(1, 2, 14, Some(&key)).unwrap();
        let id = encrypted([1; KEY_BYTES]).encode(&[1, 2], &[9; 14]).unwrap();
        assert_ne!(encrypted([2; KEY_BYTES]).decode(&id), Some(vec![1, 2]));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            rotation in 0_u8..7,
            server_id in prop::collection::vec(any::<u8>(), 1..=9),
            nonce in prop::collection::vec(any::<u8>(), 4..=10),
            key in prop::option::of(any::<[u8; KEY_BYTES]>()),
        ) {
            let codec = Codec::new(rotation, server_id.len(), nonce.len(), key.as_ref()).unwrap();
            let id = codec.encode(&server_id, &nonce).unwrap();
            prop_assert_eq!(id.len(), codec.len());
            prop_assert_eq!(usize::from(id[0] & 31), id.len() - 1);
            prop_assert_eq!(codec.decode(&id), Some(server_id));
        }

        #[test]
        fn another_nonce_is_another_id(
            lengths in (1_usize..=9, 4_usize..=10),
            nonces in any::<([u8; 10], [u8; 10])>(),
            key in prop::option::of(any::<[u8; KEY_BYTES]>()),
        ) {
            let (server_id_bytes, nonce_bytes) = lengths;
            let codec = Codec::new(0, server_id_bytes, nonce_bytes, key.as_ref()).unwrap();
            let (one, two) = (&nonces.0[..nonce_bytes], &nonces.1[..nonce_bytes]);
            let server_id = vec![3; server_id_bytes];
            prop_assert_eq!(codec.encode(&server_id, one) == codec.encode(&server_id, two), one == two);
        }

        #[test]
        fn nothing_that_comes_in_is_a_panic(
            lengths in (1_usize..=9, 4_usize..=10),
            id in prop::collection::vec(any::<u8>(), 0..40),
            key in prop::option::of(any::<[u8; KEY_BYTES]>()),
        ) {
            let codec = Codec::new(0, lengths.0, lengths.1, key.as_ref()).unwrap();
            if let Some(server_id) = codec.decode(&id) {
                prop_assert_eq!(server_id.len(), lengths.0);
                prop_assert_eq!(id.len(), codec.len());
            }
        }
    }
}
