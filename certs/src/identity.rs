//! A relay's certificate and private key.

use crate::{TLS_VERSIONS, provider, spki_sha256};
use aws_lc_rs::hmac;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A certificate chain with its private key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    spki_sha256: [u8; 32],
}

impl Identity {
    /// Larger files are refused: no chain or key comes near it.
    const MAX_FILE_BYTES: u64 = 1024 * 1024;

    /// A certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn from_files(certificate_file: &Path, key_file: &Path) -> Result<Self, IdentityError> {
        let pem = read_limited(certificate_file)?;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| {
                IdentityError::Pem { file: certificate_file.into(), detail: error.to_string() }
            })?;
        let key = PrivateKeyDer::from_pem_slice(&read_limited(key_file)?)
            .map_err(|error| IdentityError::Pem { file: key_file.into(), detail: error.to_string() })?;
        let spki_sha256 = chain
            .first()
            .and_then(spki_sha256)
            .ok_or_else(|| IdentityError::NoCertificate { file: certificate_file.into() })?;
        let identity = Self { chain, key, spki_sha256 };
        identity.server_config(&[]).map_err(|source| IdentityError::Pair {
            certificate_file: certificate_file.into(),
            key_file: key_file.into(),
            source,
        })?;
        Ok(identity)
    }

    /// The self-signed certificate kept in `directory`, made there the first time.
    ///
    /// `names` go into a new certificate; peers that verify by pin do not look at them.
    ///
    /// # Errors
    /// [`IdentityError`] when the directory cannot be written, or what is there cannot be read.
    pub fn self_signed(directory: &Path, names: &[String]) -> Result<Self, IdentityError> {
        let certificate_file = directory.join("certificate.pem");
        let key_file = directory.join("certificate.key");
        if !key_file.exists() {
            let minted = rcgen::generate_simple_self_signed(names).map_err(IdentityError::Mint)?;
            create_private_directory(directory)?;
            write_atomically(&certificate_file, minted.cert.pem().as_bytes())?;
            // The key last: where it is, the certificate is too.
            write_atomically(&key_file, minted.signing_key.serialize_pem().as_bytes())?;
        }
        Self::from_files(&certificate_file, &key_file)
    }

    /// The SHA-256 of the certificate's `SubjectPublicKeyInfo`: what a pin names.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }

    /// A secret of this identity for the purpose that `label` names: the same after every restart, and telling nothing
    /// of the private key or of the secrets for other purposes (HMAC-SHA256,
    /// [RFC 2104](https://www.rfc-editor.org/rfc/rfc2104), with the private key as its key).
    pub fn derived_secret(&self, label: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, label.as_bytes()).as_ref());
        secret
    }

    /// The rustls configuration of the accepting end, offering these ALPN protocols.
    ///
    /// # Errors
    /// When key and certificate do not belong together.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, rustls::Error> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS_VERSIONS)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

fn read_limited(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Read { file: file.into(), source };
    if fs::metadata(file).map_err(failed)?.len() > Identity::MAX_FILE_BYTES {
        return Err(failed(io::Error::other("the file is too large")));
    }
    fs::read(file).map_err(failed)
}

fn create_private_directory(directory: &Path) -> Result<(), IdentityError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|source| IdentityError::Write { file: directory.into(), source })
}

/// Writes beside the file and renames, so that no reader sees half of it. The file is readable by its owner only.
fn write_atomically(file: &Path, contents: &[u8]) -> Result<(), IdentityError> {
    let beside = file.with_extension("new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut open = options.open(&beside)?;
        io::Write::write_all(&mut open, contents)?;
        open.sync_all()?;
        fs::rename(&beside, file)
    };
    write().map_err(|source| IdentityError::Write { file: file.into(), source })
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or has nothing of the right kind in it.
    #[error("{} is not usable PEM: {detail}", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What the parser said.
        detail: String,
    },
    /// The certificate file has no certificate that can be read.
    #[error("{} holds no certificate", file.display())]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// Key and certificate do not belong together.
    #[error("{} and {} cannot be used together: {source}", certificate_file.display(), key_file.display())]
    Pair {
        /// The certificate.
        certificate_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Mint(rcgen::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["localhost".to_owned()]
    }

    #[test]
    fn self_signed_certificate_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let first = Identity::self_signed(&state, &names()).unwrap();
        let second = Identity::self_signed(&state, &names()).unwrap();
        assert_eq!(first.spki_sha256(), second.spki_sha256());
        assert_ne!(first.spki_sha256(), [0; 32]);
    }

    #[test]
    fn derived_secrets_are_stable_and_differ_by_label_and_identity() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity = Identity::self_signed(one.path(), &names()).unwrap();
        let again = Identity::self_signed(one.path(), &names()).unwrap();
        let other = Identity::self_signed(two.path(), &names()).unwrap();
        assert_eq!(identity.derived_secret("a"), again.derived_secret("a"));
        assert_ne!(identity.derived_secret("a"), identity.derived_secret("b"));
        assert_ne!(identity.derived_secret("a"), other.derived_secret("a"));
        assert_ne!(identity.derived_secret("a"), [0; 32]);
    }

    #[cfg(unix)]
    #[test]
    fn key_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        Identity::self_signed(directory.path(), &names()).unwrap();
        let mode = fs::metadata(directory.path().join("certificate.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn unreadable_garbled_and_mismatched_files_are_named() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Identity::self_signed(one.path(), &names()).unwrap();
        Identity::self_signed(two.path(), &names()).unwrap();
        let file = |directory: &tempfile::TempDir, name: &str| directory.path().join(name);
        let certificate = file(&one, "certificate.pem");

        let missing = Identity::from_files(&certificate, &file(&one, "missing.key")).unwrap_err().to_string();
        assert!(missing.contains("missing.key") && missing.contains("No such file"), "{missing}");

        let garbled = file(&one, "garbled.key");
        fs::write(&garbled, "no key").unwrap();
        let error = Identity::from_files(&certificate, &garbled).unwrap_err().to_string();
        assert!(error.contains("garbled.key"), "{error}");
        let error = Identity::from_files(&garbled, &file(&one, "certificate.key")).unwrap_err();
        assert!(matches!(error, IdentityError::NoCertificate { .. }), "{error}");

        let error = Identity::from_files(&certificate, &file(&two, "certificate.key")).unwrap_err();
        assert!(matches!(error, IdentityError::Pair { .. }), "{error}");
    }
}
