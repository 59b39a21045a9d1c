//! A secret that outlives certificates.

use crate::{
    Certificate, IdentityError,
    files::{create_private_directory, read_limited, write_private},
};
use aws_lc_rs::hmac;
use std::{fmt, path::Path};

/// What the first secret is derived from the certificate's key with.
const LABEL: &str = "converge relay secret";
const FILE: &str = "secret";

/// What a relay's derived secrets are derived from.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The one that a private key stands for: the same wherever the key is, and telling nothing of it.
    pub(crate) fn of(certificate: &Certificate) -> Self {
        Self(hmac_sha256(certificate.key.secret_der(), LABEL))
    }

    /// The one that the relays of a cluster share.
    pub(crate) fn of_cluster(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// One that is derived from another.
    pub(crate) fn derived(from: &Self, label: &str) -> Self {
        Self(from.derive(label))
    }

    /// The one kept in a directory. When there is none yet, this one is from now on.
    pub(crate) fn kept_in(self, directory: &Path) -> Result<Self, IdentityError> {
        let file = directory.join(FILE);
        if file.exists() {
            let kept = read_limited(&file)?;
            return <[u8; 32]>::try_from(kept).map(Self).map_err(|_| IdentityError::Secret { file });
        }
        create_private_directory(directory)?;
        write_private(&file, &self.0)?;
        Ok(self)
    }

    /// HMAC-SHA256, [RFC 2104](https://www.rfc-editor.org/rfc/rfc2104).
    pub(crate) fn derive(&self, label: &str) -> [u8; 32] {
        hmac_sha256(&self.0, label)
    }
}

fn hmac_sha256(key: &[u8], label: &str) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut secret = [0; 32];
    secret.copy_from_slice(hmac::sign(&key, label.as_bytes()).as_ref());
    secret
}
