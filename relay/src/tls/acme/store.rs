//! What is kept between runs of the relay: the account's key, and the certificate with its key.

use super::{AcmeSettings, OrderError};
use converge_certs::{Certificate, IdentityError, create_private_directory, write_private};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A directory for each ACME server, so that trying a staging server out leaves nothing behind for the real one.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    pub(super) fn of(settings: &AcmeSettings) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let server = settings.directory.trim_start_matches("https://");
        let name: String = server.chars().map(plain).take(128).collect();
        Self { directory: settings.state_dir.join("acme").join(name) }
    }

    /// The certificate of the last order.
    pub(super) fn certificate(&self) -> Result<Option<Certificate>, IdentityError> {
        let file = self.certificate_file();
        if file.exists() { Certificate::from_files(&file, &file).map(Some) } else { Ok(None) }
    }

    /// Chain and key in one file, so that there is no moment with half of them.
    pub(super) fn keep_certificate(
        &self,
        chain: &str,
        key: &str,
        domains: &[String],
    ) -> Result<Certificate, OrderError> {
        let both = format!("{key}{chain}");
        let file = self.certificate_file();
        let certificate = Certificate::from_pem(both.as_bytes(), both.as_bytes(), &file, &file)?;
        if !certificate.facts().covers(domains) {
            return Err(OrderError::OtherNames(certificate.facts().names.join(" ")));
        }
        self.write(&file, both.as_bytes())?;
        Ok(certificate)
    }

    /// The account's credentials, as they were kept.
    pub(super) fn account(&self) -> Option<Vec<u8>> {
        fs::read(self.account_file()).ok()
    }

    pub(super) fn keep_account(&self, credentials: &[u8]) -> Result<(), IdentityError> {
        self.write(&self.account_file(), credentials)
    }

    /// The server does not know it any more.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        fs::remove_file(self.account_file())
    }

    fn write(&self, file: &Path, contents: &[u8]) -> Result<(), IdentityError> {
        create_private_directory(&self.directory)?;
        write_private(file, contents)
    }

    fn certificate_file(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    fn account_file(&self) -> PathBuf {
        self.directory.join("account.json")
    }
}
