//! An agent's SSH host key as its peers see it, and its short name in an address.

use data_encoding::{BASE32_NOPAD, BASE64};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use sha2::{Digest, Sha256};
use ssh_key::{
    Algorithm, HashAlg, PrivateKey, PublicKey, SshSig,
    encoding::{Decode as _, Encode as _},
    public::KeyData,
};
use std::{fmt, str::FromStr};

/// An Ed25519 SSH public key ([RFC 8709]) that names an agent.
///
/// [RFC 8709]: https://www.rfc-editor.org/rfc/rfc8709
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey {
    key: PublicKey,
    blob: Vec<u8>,
}

impl HostKey {
    /// Longer blobs are refused unread; an Ed25519 one has 51 bytes.
    const MAX_BLOB_BYTES: usize = 256;

    /// The public key without its comment.
    ///
    /// # Errors
    /// [`InvalidHostKey`] when it is not Ed25519.
    pub fn new(key: &PublicKey) -> Result<Self, InvalidHostKey> {
        let KeyData::Ed25519(_) = key.key_data() else {
            return Err(InvalidHostKey::Algorithm(key.algorithm()));
        };
        let key = PublicKey::from(key.key_data().clone());
        let blob = key.to_bytes()?;
        Ok(Self { key, blob })
    }

    /// Reads the key from its SSH wire format ([RFC 8709 section 4]).
    ///
    /// # Errors
    /// [`InvalidHostKey`] when it is too long, not a key, or not Ed25519.
    ///
    /// [RFC 8709 section 4]: https://www.rfc-editor.org/rfc/rfc8709#section-4
    pub fn from_blob(blob: &[u8]) -> Result<Self, InvalidHostKey> {
        if blob.len() > Self::MAX_BLOB_BYTES {
            return Err(InvalidHostKey::TooLong(blob.len()));
        }
        Self::new(&PublicKey::from_bytes(blob)?)
    }

    /// The SSH wire format.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `ssh-ed25519 AAAA…`, as in `known_hosts` behind the host names.
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.key.algorithm(), BASE64.encode(&self.blob))
    }

    /// The short name of the key in an address.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_blob(&self.blob)
    }

    /// Whether `signature` is this key's over `message` for the purpose `namespace`.
    ///
    /// The format is OpenSSH's SSHSIG (`PROTOCOL.sshsig`), whose namespace keeps signatures for one purpose from
    /// being used for another.
    pub fn verify(&self, namespace: &str, message: &[u8], signature: &[u8]) -> bool {
        let mut reader = signature;
        let decoded = SshSig::decode(&mut reader);
        reader.is_empty()
            && decoded.is_ok_and(|signature| self.key.verify(namespace, message, &signature).is_ok())
    }
}

/// Signs `message` for the purpose `namespace`; the other end of [`HostKey::verify`].
///
/// # Errors
/// When the key cannot sign, for example because it is encrypted.
pub fn sign(key: &PrivateKey, namespace: &str, message: &[u8]) -> Result<Vec<u8>, ssh_key::Error> {
    Ok(key.sign(namespace, HashAlg::Sha512, message)?.encode_vec()?)
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

impl<C> Encode<C> for HostKey {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.blob)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for HostKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::from_blob(d.bytes()?).map_err(decode::Error::message)
    }
}

/// The first 20 characters of the lower-case base32 ([RFC 4648]) of the SHA-256 of the SSH public key blob: 100
/// bits, enough that nobody makes a second key for it, short enough to copy.
///
/// [RFC 4648]: https://www.rfc-editor.org/rfc/rfc4648#section-6
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Characters of a fingerprint.
    pub const LEN: usize = 20;

    /// The fingerprint of an SSH public key blob.
    pub fn of_blob(blob: &[u8]) -> Self {
        let mut text = BASE32_NOPAD.encode(&Sha256::digest(blob)).to_ascii_lowercase();
        text.truncate(Self::LEN);
        Self(text)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        if text.len() != Self::LEN {
            return Err(InvalidFingerprint::Length { len: text.chars().count() });
        }
        if let Some(character) = text.chars().find(|c| !matches!(c, 'a'..='z' | '2'..='7')) {
            return Err(InvalidFingerprint::Character { character });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why bytes are not a host key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidHostKey {
    /// Longer than any Ed25519 key.
    #[error("a host key of {0} bytes is too long")]
    TooLong(usize),
    /// A key of another kind.
    #[error("the host key must be ssh-ed25519, not {0}")]
    Algorithm(Algorithm),
    /// Not an SSH public key.
    #[error("not an SSH public key: {0}")]
    Format(#[from] ssh_key::Error),
}

/// Why a text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFingerprint {
    /// Not 20 characters.
    #[error("a fingerprint has {} characters, this one has {len}", Fingerprint::LEN)]
    Length {
        /// How many it has.
        len: usize,
    },
    /// Something else than `a-z` or `2-7`.
    #[error("a fingerprint is made of a-z and 2-7, not of {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ssh_key::private::{Ed25519Keypair, KeypairData};

    /// A key pair that is the same in every run.
    pub(crate) fn key_pair(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    pub(crate) fn host_key(seed: u8) -> HostKey {
        HostKey::new(key_pair(seed).public_key()).unwrap()
    }

    #[test]
    fn fingerprint_is_100_bits_of_the_sha256_of_the_blob() {
        let key = host_key(1);
        let fingerprint = key.fingerprint();
        let digits = fingerprint.to_string().to_ascii_uppercase() + "AAAA";
        let bits = BASE32_NOPAD.decode(digits.as_bytes()).unwrap();
        let digest = Sha256::digest(key.blob());
        assert_eq!(bits[..12], digest[..12]);
        assert_eq!(bits[12], digest[12] & 0xf0, "100 bits end in the middle of the 13th byte");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }

    #[test]
    fn wrong_fingerprints_are_refused_in_words() {
        assert_eq!("abc".parse::<Fingerprint>(), Err(InvalidFingerprint::Length { len: 3 }));
        let upper = "A2345672345672345672";
        assert_eq!(upper.parse::<Fingerprint>(), Err(InvalidFingerprint::Character { character: 'A' }));
        assert!("a234567234567234567\u{e9}".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn signature_counts_only_for_its_key_message_and_purpose() {
        let signature = sign(&key_pair(1), "purpose", b"message").unwrap();
        assert!(host_key(1).verify("purpose", b"message", &signature));
        assert!(!host_key(2).verify("purpose", b"message", &signature));
        assert!(!host_key(1).verify("other purpose", b"message", &signature));
        assert!(!host_key(1).verify("purpose", b"other message", &signature));
        assert!(!host_key(1).verify("purpose", b"message", b"garbage"));
    }

    #[test]
    fn blobs_round_trip_and_damage_is_noticed() {
        let key = host_key(3);
        assert_eq!(HostKey::from_blob(key.blob()).unwrap(), key);
        assert!(HostKey::from_blob(&key.blob()[1..]).is_err());
        assert!(HostKey::from_blob(&[key.blob(), b"x"].concat()).is_err());
        assert!(HostKey::from_blob(&[0; 300]).is_err());
        assert!(key.to_openssh().starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"));
    }
}
