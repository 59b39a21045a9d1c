//! What the tests of this folder share.

use converge_proto::HostKey;

/// One of 256 keys.
pub(super) fn host_key(seed: u8) -> HostKey {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
    HostKey::new(&ssh_key::PublicKey::from(pair.public)).unwrap()
}
