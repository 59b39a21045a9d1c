//! Which cryptography the SSH server offers, and its protocol settings.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac, server};

use super::flow::WINDOW_BYTES;

/// How many public keys a client may try before it is disconnected; OpenSSH's own server allows as many.
pub const MAX_LOGIN_ATTEMPTS: usize = 6;

/// After how many bytes in one direction new keys are agreed on: 1 GiB, as [RFC 4253 section 9] recommends.
///
/// [RFC 4253 section 9]: https://www.rfc-editor.org/rfc/rfc4253#section-9
pub const REKEY_BYTES: usize = 1024 * 1024 * 1024;

/// Below this, a connection would do little else.
const LEAST_REKEY_BYTES: usize = 64 * 1024;

/// New keys are agreed on after this time, too, as the same section recommends.
const REKEY_TIME: Duration = Duration::from_hours(1);

/// AES-GCM first: twice as fast as `ChaCha20` on any machine with AES instructions, and both are authenticated.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Encrypt-then-MAC only; they matter for the CTR ciphers alone.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// NIST P-256 is for clients that have nothing but a browser's own cryptography.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Signature algorithms of host and user keys: everything but SHA-1 and DSA.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Whether a user may prove a key with this signature algorithm.
pub(super) fn is_accepted(algorithm: &Algorithm) -> bool {
    KEYS.contains(algorithm)
}

/// The library's settings for one server.
///
/// No SSH keepalive and no inactivity limit: an SSH session outlives links and may be silent for as long as a
/// suspended laptop sleeps. Liveness is judged one layer below, idleness by the agent's clocks; the time before
/// login is limited by [`super::LOGIN_GRACE_TIME`].
pub(super) fn config(host_key: PrivateKey, rekey_bytes: usize) -> server::Config {
    let rekey_bytes = rekey_bytes.clamp(LEAST_REKEY_BYTES, REKEY_BYTES);
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-Converge_", env!("CARGO_PKG_VERSION")))),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Delays protect passwords from guessing. There are none, and a person with five keys should not wait 5 s.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        window_size: WINDOW_BYTES,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        // The library counts the "none" with which every client begins as one attempt.
        max_auth_attempts: MAX_LOGIN_ATTEMPTS + 1,
        limits: Limits::new(rekey_bytes, rekey_bytes, REKEY_TIME),
        inactivity_timeout: None,
        keepalive_interval: None,
        ..server::Config::default()
    }
}
