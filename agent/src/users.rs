//! Who may log in: several sources of keys behind one type, asked in this order.
//!
//! 1. *Files* in the format of `authorized_keys` ([`AuthorizedKeys`]), read afresh at every login: an edit counts at once.
//! 2. *Lists* that are fetched from a web server ([`ListSource`]): a GitHub or GitLab user's keys, or any URL. They are
//!    fetched at the start, again and again in the background, and when somebody comes with a key that is on none of
//!    them; [`FetchSettings`] has the times.
//! 3. *Certificate authorities* ([`UsersConfig::trusted_user_ca`], and lines with `cert-authority` in the first two
//!    kinds of source): OpenSSH user certificates that one of them has signed, as far as their principals allow
//!    ([`UsersConfig::principals`]).
//!
//! What is taken away counts for the next login. Who is inside stays, as with OpenSSH's server: a session is ended by
//! ending it, not by an edit of a file.
//!
//! Start with [`Users::load`]; [`Report`] says what the sources gave, [`Users::find_key`] and
//! [`Users::judge_certificate`] answer one login attempt.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use converge_transport::ProxyChoice;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, HashAlg, PublicKey};
use tokio_util::task::AbortOnDropHandle;

use crate::users::authorized_keys::{AuthorizedKeys, Entry, Found, KeyList, KeyOptions, Place};

pub mod authorized_keys;
mod certificate;
mod fetch;
mod list;
mod report;
mod source;
pub mod user;

pub use certificate::CertificateProblem;
pub use fetch::{FetchError, FetchSettings};
pub use report::Report;
pub use source::{GITHUB, GITLAB, InvalidSource, ListSource};

use certificate::Principals;
use list::FetchedLists;

/// Where [`Users`] come from.
#[derive(Debug, Default)]
pub struct UsersConfig {
    /// Files in the format of `authorized_keys`. One that does not exist may come later.
    pub files: Vec<PathBuf>,
    /// More such files, asked after those, that nobody can have filled yet: the report is silent about them.
    pub later_files: Vec<PathBuf>,
    /// What is fetched.
    pub lists: Vec<ListSource>,
    /// Files with public keys of certificate authorities, one per line without options, as `TrustedUserCAKeys` of
    /// OpenSSH's server. Read afresh at every login with a certificate.
    pub trusted_user_ca: Vec<PathBuf>,
    /// One of these must be among the principals of a certificate, unless the line of its authority has a list of its
    /// own. Without it the name given to ssh must be, which is OpenSSH's rule; but here a person may give any name, so
    /// everybody whose certificate has any principal at all gets in.
    pub principals: Option<Vec<String>>,
    /// The proxy for lists that are fetched.
    pub proxy: ProxyChoice,
    /// Limits and times of what is fetched.
    pub fetch: FetchSettings,
}

/// Everybody who may log in. Clones are the same.
#[derive(Clone, Debug)]
pub struct Users {
    sources: Arc<Sources>,
}

#[derive(Debug)]
struct Sources {
    files: AuthorizedKeys,
    lists: FetchedLists,
    authorities: AuthorizedKeys,
    principals: Option<Vec<String>>,
    /// Ends with the last clone.
    _refreshing: Option<AbortOnDropHandle<()>>,
}

/// Somebody may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What they may do.
    pub options: KeyOptions,
    /// The comment behind the key; of a certificate its key ID and serial number. Possibly empty.
    pub comment: String,
    /// Which line says so, and for a certificate which authority: for logs.
    pub source: String,
}

/// Nobody is known by this key. Says what kept lines that name it from being used; empty for a stranger.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// For logs.
    pub problems: Vec<String>,
    /// There are authorities whose certificates would be looked at.
    pub trusts_authorities: bool,
}

impl Users {
    /// Fetches what is to be fetched, which takes [`FetchSettings::time_limit`] at most, and says what all sources
    /// gave. Nothing is an error here: whether an agent without users makes sense is for others to say.
    ///
    /// Lists are kept up to date by a task that ends with the last clone of what is returned.
    pub async fn load(config: UsersConfig) -> (Self, Report) {
        let lists = FetchedLists::new(config.lists, config.proxy, config.fetch);
        lists.fetch_all().await;
        let (files, authorities) =
            (AuthorizedKeys::new(config.files), AuthorizedKeys::new(config.trusted_user_ca));
        let now = SystemTime::now();
        let mut report = Report::new(files.files());
        report.any_principal = config.principals.is_none();
        report.add_files(&files, &read(&files).await, now);
        for (source, outcome) in lists.outcomes() {
            report.add_list(&source, outcome, now);
        }
        report.add_authorities(&authorities, &read(&authorities).await);
        // With nothing to keep up to date it would end at once.
        let refreshing = tokio::spawn(lists.clone().keep_up_to_date());
        let sources = Sources {
            files: AuthorizedKeys::new(files.files().iter().cloned().chain(config.later_files)),
            lists,
            authorities,
            principals: config.principals,
            _refreshing: Some(AbortOnDropHandle::new(refreshing)),
        };
        (Self { sources: Arc::new(sources) }, report)
    }

    /// Whether a signature with this key is worth asking for, before anybody has proved to own it. The SSH library does
    /// not say whether a key comes alone or in a certificate: where an authority is trusted, any key may be in one.
    ///
    /// # Errors
    /// [`Refusal`] when nobody has it, nor could have a certificate for it.
    pub async fn is_worth_a_signature(&self, key: &PublicKey, now: SystemTime) -> Result<(), Refusal> {
        match self.find_known(key, now).await {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.trusts_authorities => Ok(()),
            Err(_) => self.find_key(key, now).await.map(|_| ()),
        }
    }

    /// Looks for a key that is not part of a certificate. Waits for lists that are fetched because of it.
    ///
    /// # Errors
    /// [`Refusal`] when nobody has it.
    pub async fn find_key(&self, key: &PublicKey, now: SystemTime) -> Result<Allowed, Refusal> {
        match self.find_known(key, now).await {
            Err(_) if self.sources.lists.fetch_again().await => self.find_known(key, now).await,
            answer => answer,
        }
    }

    /// Looks at what is here.
    async fn find_known(&self, key: &PublicKey, now: SystemTime) -> Result<Allowed, Refusal> {
        let Sources { files, lists, authorities, .. } = &*self.sources;
        let files = read(files).await;
        let (in_files, in_lists) = (files.find(key, now), lists.find(|list| list.find(key, now)));
        if let Some((place, entry)) = in_files.entries.into_iter().chain(in_lists.entries).next() {
            return Ok(Allowed { options: entry.options, comment: entry.comment, source: place.to_string() });
        }
        let problems = in_files.problems.iter().chain(&in_lists.problems);
        Err(Refusal {
            problems: problems.map(ToString::to_string).collect(),
            trusts_authorities: !authorities.files().is_empty()
                || has_authorities(&files)
                || lists.current().any(|list| has_authorities(&list)),
        })
    }

    /// Judges a certificate that was presented for `login`, by somebody who has proved to own its key.
    ///
    /// # Errors
    /// [`Refusal`], with the reason if its authority is a trusted one.
    pub async fn judge_certificate(
        &self,
        login: &str,
        certificate: &Certificate,
        now: SystemTime,
    ) -> Result<Allowed, Refusal> {
        let authority = certificate.signature_key();
        let sources = &*self.sources;
        let mut found = read(&sources.files).await.find_authorities(authority, now);
        for more in [
            sources.lists.find(|list| list.find_authorities(authority, now)),
            trusted(&read(&sources.authorities).await, authority),
        ] {
            found.entries.extend(more.entries);
            found.problems.extend(more.problems);
        }
        let mut refusal = Refusal {
            problems: found.problems.iter().map(ToString::to_string).collect(),
            trusts_authorities: true,
        };
        for (place, entry) in found.entries {
            let line = entry.options.principals.as_deref();
            let principals = match line.or(sources.principals.as_deref()) {
                Some(names) => Principals::OneOf(names),
                None => Principals::Login(login),
            };
            match certificate::judge(certificate, principals, &entry.options, now) {
                Ok(options) => return Ok(Allowed::with_certificate(certificate, options, &place)),
                Err(problem) => refusal.problems.push(format!("{problem} (authority of {place})")),
            }
        }
        Err(refusal)
    }
}

/// Files, and nothing that has to be fetched.
impl From<AuthorizedKeys> for Users {
    fn from(files: AuthorizedKeys) -> Self {
        Self {
            sources: Arc::new(Sources {
                files,
                lists: FetchedLists::default(),
                authorities: AuthorizedKeys::new(Vec::<PathBuf>::new()),
                principals: None,
                _refreshing: None,
            }),
        }
    }
}

impl Allowed {
    fn with_certificate(certificate: &Certificate, options: KeyOptions, place: &Place) -> Self {
        let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
        Self {
            options,
            comment: format!("{} (serial {})", certificate.key_id(), certificate.serial()),
            source: format!("certificate authority {authority} ({place})"),
        }
    }
}

/// Reads files where waiting for a disk hurts nobody.
async fn read(files: &AuthorizedKeys) -> KeyList {
    let files = files.clone();
    tokio::task::spawn_blocking(move || files.load()).await.unwrap_or_default()
}

fn has_authorities(list: &KeyList) -> bool {
    list.entries().iter().any(|(_, entry)| !entry.is_user())
}

/// Options have no meaning in a `TrustedUserCAKeys` file; a line that has some was meant for another one.
fn is_bare(entry: &Entry) -> bool {
    entry.options == KeyOptions::default()
}

fn trusted(list: &KeyList, authority: &KeyData) -> Found {
    let trusted =
        list.entries().iter().filter(|(_, entry)| is_bare(entry) && entry.key.key_data() == authority);
    Found { entries: trusted.cloned().collect(), problems: Vec::new() }
}
