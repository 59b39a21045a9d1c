//! Certificate files that somebody else renews.

use super::{Tls, watch::Watch};
use converge_certs::{Certificate, ClientAuthority, IdentityError};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};
use tracing::{info, warn};

/// Certificate and key change one after the other. Files that do not serve are complained of when they have not done so
/// for this long.
const SETTLE: Duration = Duration::from_secs(5);

/// A certificate chain and its key, in PEM. They may be the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Takes over what is written to the files, until cancelled.
pub(super) async fn follow(tls: &Tls, files: &CertificateFiles) {
    let CertificateFiles { certificate, key } = files;
    let paths = vec![certificate.clone(), key.clone()];
    let look = || {
        let read = Certificate::from_files(certificate, key)?;
        if !read.is_same(&tls.identity.current()) {
            tls.replace(read);
        }
        Ok(())
    };
    keep_up(paths, "--cert and --key", look).await;
}

/// The same for the authorities that issue certificates to agents.
pub(super) async fn follow_authority(authority: &Arc<ClientAuthority>) {
    let look = || {
        if authority.reload()? {
            info!(file = %authority.file().display(), "other authorities are believed of agents from now on");
        }
        Ok(())
    };
    keep_up(vec![authority.file().to_owned()], "--agent-ca", look).await;
}

/// Looks whenever files may have changed.
async fn keep_up(paths: Vec<PathBuf>, flags: &str, mut look: impl FnMut() -> Result<(), IdentityError>) {
    let names = paths.iter().map(PathBuf::as_path);
    let names = names.map(Path::display).map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
    let mut watch = Watch::new(paths);
    let mut trouble = Trouble::default();
    loop {
        match without_holding_others_up(&mut look) {
            Ok(()) => {
                if trouble.over() {
                    info!(files = %names, "the files are in order again");
                }
            }
            Err(error) => {
                if trouble.is_to_be_said(&error.to_string(), Instant::now()) {
                    warn!(%error, "cannot use the files of {flags}; what they held before is still used");
                }
            }
        }
        let settled = trouble.settles_at();
        tokio::select! {
            () = watch.changed() => {}
            () = converge_transport::sleep_until(settled) => {}
        }
    }
}

/// A file of another machine may take long to read. Only a runtime with several threads has others for its tasks.
fn without_holding_others_up<T>(look: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(look),
        _ => look(),
    }
}

/// What is wrong with the files, and what has been said of it.
#[derive(Debug, Default)]
struct Trouble {
    /// The last error, and since when it is this one.
    current: Option<(String, Instant)>,
    said: Option<String>,
}

impl Trouble {
    /// Whether this is to be said now: it has lasted, and is not what was said last.
    fn is_to_be_said(&mut self, error: &str, now: Instant) -> bool {
        let since = match &self.current {
            Some((current, since)) if current == error => *since,
            _ => {
                self.current = Some((error.to_owned(), now));
                now
            }
        };
        let is_to_be_said = now - since >= SETTLE && self.said.as_deref() != Some(error);
        if is_to_be_said {
            self.said = Some(error.to_owned());
        }
        is_to_be_said
    }

    /// When there will be something to say, unless the files serve by then.
    fn settles_at(&self) -> Option<Instant> {
        let (current, since) = self.current.as_ref()?;
        (self.said.as_ref() != Some(current)).then(|| *since + SETTLE)
    }

    /// The files serve; whether it had been said that they do not.
    fn over(&mut self) -> bool {
        self.current = None;
        self.said.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_said_once_and_only_when_it_lasts() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        assert!(!trouble.over(), "there was none");
        assert!(!trouble.is_to_be_said("half", start));
        assert_eq!(trouble.settles_at(), Some(start + SETTLE));
        assert!(!trouble.over(), "nothing had been said of it");

        assert!(!trouble.is_to_be_said("half", start));
        assert!(!trouble.is_to_be_said("half", start + SETTLE / 2));
        assert!(trouble.is_to_be_said("half", start + SETTLE));
        assert_eq!(trouble.settles_at(), None);
        assert!(!trouble.is_to_be_said("half", start + SETTLE * 2));
        assert!(
            !trouble.is_to_be_said("none", start + SETTLE * 2),
            "something else is wrong, for the moment"
        );
        assert_eq!(trouble.settles_at(), Some(start + SETTLE * 3));
        assert!(trouble.is_to_be_said("none", start + SETTLE * 3));
        assert!(!trouble.is_to_be_said("none", start + SETTLE * 4));
        assert!(trouble.over());
        assert!(!trouble.over());
    }
}
