//! Who a relay is to those who connect to it.

use crate::{
    Certificate, TLS_VERSIONS,
    acme::Proof,
    client_authority::ClientAuthority,
    files::{create_private_directory, write_private},
    provider,
    secret::Secret,
    shown::Shown,
    tickets::Tickets,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::server::WantsServerCert;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a relay's certificate has for its issuer until an authority has issued one.
pub const AWAITED_ISSUER: &str = "a relay that waits for its first certificate";

/// Who a relay is to those who connect to it: the certificate that it shows at this moment, and secrets that outlive it.
///
/// Clones are the same identity, as are the rustls configurations made from it: a certificate that is
/// [replaced](Self::replace) is replaced in all of them, for handshakes that begin afterwards. TLS sessions that are
/// resumed go on as they were.
#[derive(Clone, Debug)]
pub struct Identity {
    shown: Arc<Shown>,
    secret: Secret,
    cluster: Cluster,
    agents: Option<Arc<ClientAuthority>>,
}

/// Whether others have the secret too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    Alone,
    Shared,
}

impl Identity {
    /// An identity with this certificate.
    pub fn new(certificate: Certificate) -> Self {
        let secret = Secret::of(&certificate);
        let shown = Arc::new(Shown::new(certificate));
        Self { shown, secret, cluster: Cluster::Alone, agents: None }
    }

    /// A certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn from_files(certificate_file: &Path, key_file: &Path) -> Result<Self, IdentityError> {
        Certificate::from_files(certificate_file, key_file).map(Self::new)
    }

    /// The self-signed certificate kept in `directory`, made there the first time.
    ///
    /// `names` are in the certificate; peers that verify by pin do not look at them. With other names than before a new
    /// certificate is made for the same key, so that the pin stays what it was.
    ///
    /// # Errors
    /// [`IdentityError`] when the directory cannot be written, or what is there cannot be read.
    pub fn self_signed(directory: &Path, names: &[String]) -> Result<Self, IdentityError> {
        let certificate_file = directory.join("certificate.pem");
        let key_file = directory.join("certificate.key");
        if !key_file.exists() {
            let key = KeyPair::generate().map_err(IdentityError::Mint)?;
            create_private_directory(directory)?;
            write_private(&certificate_file, mint(names, &key)?.as_bytes())?;
            // The key last: where it is, the certificate is too.
            write_private(&key_file, key.serialize_pem().as_bytes())?;
        }
        let kept = Certificate::from_files(&certificate_file, &key_file)?;
        if !kept.facts().self_signed || kept.facts().names == names {
            return Ok(Self::new(kept));
        }
        // A key that rcgen does not know was put there by hand, and the certificate with it.
        let Ok(key) = KeyPair::try_from(kept.key.secret_der()) else { return Ok(Self::new(kept)) };
        write_private(&certificate_file, mint(names, &key)?.as_bytes())?;
        Self::from_files(&certificate_file, &key_file)
    }

    /// The same for the time until an authority has issued a first certificate: what is shown has [`AWAITED_ISSUER`] for its
    /// issuer, so that peers know that trying again helps. Nothing of that is kept.
    ///
    /// # Errors
    /// As [`self_signed`](Self::self_signed).
    pub fn awaiting(directory: &Path, names: &[String]) -> Result<Self, IdentityError> {
        let identity = Self::self_signed(directory, names)?;
        // A key that rcgen does not know was put there by hand; its certificate is shown as it is.
        let Ok(key) = KeyPair::try_from(identity.current().key.secret_der()) else { return Ok(identity) };
        let mut params = CertificateParams::new(names).map_err(IdentityError::Mint)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, AWAITED_ISSUER);
        let certificate = params.self_signed(&key).map_err(IdentityError::Mint)?.pem();
        let file = directory.join("certificate.key");
        let key = key.serialize_pem();
        identity.replace(Certificate::from_pem(certificate.as_bytes(), key.as_bytes(), &file, &file)?);
        Ok(identity)
    }

    /// Keeps the secret that others are derived from in this directory, so that it stays the same when the certificate
    /// is renewed with another key and the relay then starts again. The first one there is that of the present key: a
    /// directory that does not outlive the relay changes nothing as long as the key stays. A
    /// [cluster's secret](Self::with_cluster_secret) is kept by whoever has given it; there is nothing to do then.
    ///
    /// # Errors
    /// [`IdentityError`] when the directory cannot be used; the identity is without it then.
    pub fn keep_secret_in(&mut self, directory: &Path) -> Result<(), IdentityError> {
        if self.cluster == Cluster::Alone {
            self.secret = self.secret.clone().kept_in(directory)?;
        }
        Ok(())
    }

    /// Derives everything from this secret instead, which all relays of a cluster have: 32 bytes that nobody can guess.
    /// A stateless reset of one relay is then believed by the peers of another, and its tokens and TLS session tickets
    /// are good at the others for six to twelve hours, on QUIC and TCP each.
    #[must_use]
    pub fn with_cluster_secret(mut self, secret: [u8; 32]) -> Self {
        self.secret = Secret::of_cluster(secret);
        self.cluster = Cluster::Shared;
        self
    }

    /// Whether it has a [cluster's secret](Self::with_cluster_secret).
    pub fn is_of_cluster(&self) -> bool {
        self.cluster == Cluster::Shared
    }

    /// Asks peers for a certificate of these authorities. Those that have none go on without.
    #[must_use]
    pub fn with_client_authority(mut self, agents: Arc<ClientAuthority>) -> Self {
        self.agents = Some(agents);
        self
    }

    /// Whose certificates peers may show.
    pub fn client_authority(&self) -> Option<&Arc<ClientAuthority>> {
        self.agents.as_ref()
    }

    /// The certificate that is shown at this moment.
    pub fn current(&self) -> Arc<Certificate> {
        self.shown.current()
    }

    /// Shows this certificate from now on.
    pub fn replace(&self, certificate: Certificate) {
        self.shown.replace(certificate);
    }

    /// Shows this one instead to ACME servers that ask for proof about its domain, until all are forgotten.
    pub fn prove(&self, proof: Proof) {
        self.shown.prove(proof);
    }

    /// Shows ACME servers nothing any more.
    pub fn forget_proofs(&self) {
        self.shown.forget_proofs();
    }

    /// The SHA-256 of the present certificate's `SubjectPublicKeyInfo`: what a pin names.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.current().spki_sha256()
    }

    /// A secret of this identity for the purpose that `label` names: the same after every restart and for every
    /// certificate (see [`keep_secret_in`](Self::keep_secret_in)), and telling nothing of the private key or of the
    /// secrets for other purposes.
    pub fn derived_secret(&self, label: &str) -> [u8; 32] {
        self.secret.derive(label)
    }

    /// The rustls configuration of the accepting end, offering these ALPN protocols. No early data (0-RTT) is taken, and
    /// none is sent before the peer's last word of the handshake.
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3, which ours does not.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, rustls::Error> {
        let builder =
            rustls::ServerConfig::builder_with_provider(provider()).with_protocol_versions(TLS_VERSIONS)?;
        let builder: rustls::ConfigBuilder<_, WantsServerCert> = match &self.agents {
            Some(agents) => builder.with_client_cert_verifier(agents.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(self.shown.clone());
        if self.cluster == Cluster::Shared {
            // Sessions of one protocol are not resumed in another, as when each configuration remembers its own.
            let purpose = String::from_utf8_lossy(&alpn.join(&b", "[..])).into_owned();
            config.ticketer = Arc::new(Tickets::of(&self.secret, &purpose));
        }
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

fn mint(names: &[String], key: &KeyPair) -> Result<String, IdentityError> {
    let params = CertificateParams::new(names).map_err(IdentityError::Mint)?;
    Ok(params.self_signed(key).map_err(IdentityError::Mint)?.pem())
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
    /// The secret in the state directory is not one.
    #[error("{} is not 32 bytes long; remove it, and links from before a restart are noticed as lost later", file.display())]
    Secret {
        /// Which file.
        file: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Mint(rcgen::Error),
    /// The key of a proof for an ACME server cannot be used.
    #[error("cannot use the key of a proof: {0}")]
    Proof(rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
    fn other_names_make_another_certificate_of_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::self_signed(directory.path(), &names()).unwrap();
        let others = vec!["relay.example".to_owned(), "localhost".to_owned()];
        let second = Identity::self_signed(directory.path(), &others).unwrap();
        assert_eq!(first.spki_sha256(), second.spki_sha256(), "the pin");
        assert_eq!(first.derived_secret("a"), second.derived_secret("a"));
        assert_eq!(second.current().facts().names, others);
        let third = Identity::self_signed(directory.path(), &others).unwrap();
        assert!(third.current().is_same(&second.current()), "made again without need");
    }

    #[test]
    fn kept_secret_outlives_the_key() {
        let (state, one, two) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut identity = Identity::self_signed(one.path(), &names()).unwrap();
        let before = identity.derived_secret("a");
        identity.keep_secret_in(state.path()).unwrap();
        assert_eq!(identity.derived_secret("a"), before, "the first kept secret is that of the key");
        let mut restarted = Identity::self_signed(two.path(), &names()).unwrap();
        let renewed =
            Certificate::from_files(&two.path().join("certificate.pem"), &two.path().join("certificate.key"));
        identity.replace(renewed.unwrap());
        assert_eq!(identity.derived_secret("a"), before, "after a change of the certificate");
        assert_ne!(restarted.derived_secret("a"), before);
        restarted.keep_secret_in(state.path()).unwrap();
        assert_eq!(restarted.derived_secret("a"), before, "after a restart with another key");

        fs::write(state.path().join("secret"), "short").unwrap();
        let error = restarted.keep_secret_in(state.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Secret { .. }), "{error}");
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

    #[test]
    fn cluster_secret_goes_before_all_others() {
        let (one, two, state) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity =
            |directory: &tempfile::TempDir| Identity::self_signed(directory.path(), &names()).unwrap();
        let mut first = identity(&one).with_cluster_secret([1; 32]);
        let second = identity(&two).with_cluster_secret([1; 32]);
        assert_eq!(first.derived_secret("a"), second.derived_secret("a"));
        assert_ne!(first.derived_secret("a"), identity(&one).derived_secret("a"));
        assert_ne!(
            first.derived_secret("a"),
            identity(&one).with_cluster_secret([2; 32]).derived_secret("a")
        );
        first.keep_secret_in(state.path()).unwrap();
        assert_eq!(first.derived_secret("a"), second.derived_secret("a"));
        assert_eq!(
            fs::read_dir(state.path()).unwrap().count(),
            0,
            "the cluster's secret is written to no file"
        );
        assert!(first.is_of_cluster() && !identity(&one).is_of_cluster());
    }

    #[test]
    fn only_a_cluster_puts_sessions_into_tickets_and_only_for_one_protocol() {
        let directory = tempfile::tempdir().unwrap();
        let alone = Identity::self_signed(directory.path(), &names()).unwrap();
        assert!(!alone.server_config(&[b"a"]).unwrap().ticketer.enabled());
        let shared = alone.with_cluster_secret([1; 32]);
        let ticketer = |alpn: &[&[u8]]| shared.server_config(alpn).unwrap().ticketer;
        let ticket = ticketer(&[b"a"]).encrypt(b"session").unwrap();
        assert_eq!(ticketer(&[b"a"]).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(ticketer(&[b"b"]).decrypt(&ticket), None);
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
