//! What is asked of etcd. Each question has a time limit, and nothing here decides anything.

use super::{
    holding::{Holding, RelayEntry},
    state::Revision,
};
use crate::config::cluster::{EtcdConfig, EtcdUrl, UnusablePassword};
use converge_proto::{Id, RelayNumber};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, Identity,
    KeyValue, LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper, PutOptions, ResponseHeader, TlsOptions,
    Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Duration};
use tracing::warn;

/// How long etcd may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take for all there is.
const LIST_TIMEOUT: Duration = Duration::from_mins(1);
/// Keys that are read at once.
const PAGE: i64 = 10_000;
/// How often an idle connection to etcd is tried, and how long an answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

/// Why etcd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("etcd does not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("etcd: {0}")]
    Etcd(#[from] Error),
    #[error("cannot read {}: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Password(#[from] UnusablePassword),
    #[error("etcd has ended the {0}")]
    Ended(&'static str),
    #[error("etcd has let a lease of this relay end")]
    LeaseGone(i64),
    #[error("etcd has compacted what this relay had not yet seen")]
    Compacted,
    #[error("this relay's number {0} was taken by another one that has started since")]
    NumberTaken(RelayNumber),
}

/// What a claim led to.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It was written.
    Yes(Revision),
    /// Something had changed: who holds it now, if anybody does.
    No(Option<(Holding, Revision)>, Revision),
}

/// A change of the data, and when it was made.
#[derive(Debug)]
pub(super) enum Change {
    Put(Id, Holding, Revision),
    Deleted(Id, Revision),
    Relay(RelayNumber, Option<RelayEntry>, Revision),
    /// The mark of the data: it tells whether they are the same as before.
    Mark(Option<String>),
}

/// All there is.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) mark: Option<String>,
    pub(super) relays: BTreeMap<RelayNumber, RelayEntry>,
    pub(super) ids: Vec<(Id, Holding, Revision)>,
    pub(super) revision: Revision,
}

/// A connection to etcd. Clones are the same.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    prefix: String,
}

impl Store {
    /// A store at these settings. It connects, and connects again, when something is asked.
    ///
    /// # Errors
    /// Settings that cannot be used. With a user, also when etcd is not there.
    pub(super) async fn connect(etcd: &EtcdConfig) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(ANSWER_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            // A member that is cut off from the others must not answer from its memory.
            .with_require_leader(true);
        if let Some(user) = &etcd.user {
            options = options.with_user(&user.name, user.password()?).with_auto_token_refresh(true);
        }
        if etcd.endpoints.iter().any(EtcdUrl::has_tls) {
            options = options.with_tls(tls_options(etcd)?);
        }
        let endpoints: Vec<_> = etcd.endpoints.iter().map(ToString::to_string).collect();
        let client = limited(Client::connect(&endpoints, Some(options))).await?;
        Ok(Self { client, prefix: etcd.prefix.as_str().to_owned() })
    }

    fn id_key(&self, id: &Id) -> String {
        format!("{}ids/{id}", self.prefix)
    }

    fn relay_key(&self, number: RelayNumber) -> String {
        format!("{}relays/{number}", self.prefix)
    }

    fn mark_key(&self) -> String {
        format!("{}mark", self.prefix)
    }

    /// Writes a holder, if the ID was last changed at this revision.
    pub(super) async fn claim(
        &self,
        id: &Id,
        since: Revision,
        holding: &Holding,
        lease: i64,
    ) -> Result<Claimed, StoreError> {
        let key = self.id_key(id);
        let put = TxnOp::put(key.clone(), json(holding), Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, since)])
            .and_then([put])
            .or_else([TxnOp::get(key, None)]);
        let response = limited(self.client.kv_client().txn(txn)).await?;
        let revision = response.header().map_or(0, ResponseHeader::revision);
        if response.succeeded() {
            return Ok(Claimed::Yes(revision));
        }
        let current = response.op_responses().into_iter().find_map(|answer| match answer {
            TxnOpResponse::Get(got) => got.kvs().first().cloned(),
            _ => None,
        });
        Ok(Claimed::No(current.as_ref().and_then(holding_of), revision))
    }

    /// Removes an ID, if it was last changed at this revision.
    pub(super) async fn release(&self, id: &Id, since: Revision) -> Result<bool, StoreError> {
        let key = self.id_key(id);
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, since)])
            .and_then([TxnOp::delete(key, None)]);
        Ok(limited(self.client.kv_client().txn(txn)).await?.succeeded())
    }

    /// Makes this relay known for as long as the lease lives. Unless it `takes_over`, a relay of the same number that has
    /// started since is left alone.
    pub(super) async fn announce(
        &self,
        number: RelayNumber,
        entry: &RelayEntry,
        lease: i64,
        takes_over: bool,
    ) -> Result<Revision, StoreError> {
        let key = self.relay_key(number);
        let mut kv = self.client.kv_client();
        let there = limited(kv.get(key.clone(), None)).await?;
        let there = there.kvs().first().and_then(|kv| serde_json::from_slice::<RelayEntry>(kv.value()).ok());
        if there.is_some_and(|there| there.run != entry.run) && !takes_over {
            return Err(StoreError::NumberTaken(number));
        }
        let options = PutOptions::new().with_lease(lease);
        let put = limited(kv.put(key, json(entry), Some(options))).await?;
        Ok(put.header().map_or(0, ResponseHeader::revision))
    }

    /// The mark of the data, made the first time.
    pub(super) async fn mark(&self, new: &str) -> Result<String, StoreError> {
        let key = self.mark_key();
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), new, None)])
            .or_else([TxnOp::get(key, None)]);
        let response = limited(self.client.kv_client().txn(txn)).await?;
        let there = response.op_responses().into_iter().find_map(|answer| match answer {
            TxnOpResponse::Get(got) => got.kvs().first().map(|kv| text(kv.value())),
            _ => None,
        });
        Ok(there.unwrap_or_else(|| new.to_owned()))
    }

    /// A lease that ends this long after it was last kept alive.
    pub(super) async fn lease(&self, time: Duration) -> Result<i64, StoreError> {
        let seconds = i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX);
        let options: Option<LeaseGrantOptions> = None;
        Ok(limited(self.client.lease_client().grant(seconds, options)).await?.id())
    }

    /// Ends a lease, and all that was written with it.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        limited(self.client.lease_client().revoke(lease)).await?;
        Ok(())
    }

    /// Keeps a lease alive from now on; etcd has heard so once.
    pub(super) async fn keep_alive(
        &self,
        lease: i64,
    ) -> Result<(LeaseKeeper, LeaseKeepAliveStream), StoreError> {
        match limited(self.client.lease_client().keep_alive(lease)).await {
            // So this crate says that the lease is not there.
            Err(StoreError::Etcd(Error::LeaseKeepAliveError(_))) => Err(StoreError::LeaseGone(lease)),
            other => other,
        }
    }

    /// All there is at one moment.
    pub(super) async fn list(&self) -> Result<Snapshot, StoreError> {
        tokio::time::timeout(LIST_TIMEOUT, self.read_all()).await.map_err(|_| StoreError::Silent)?
    }

    async fn read_all(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        let end = end_of(&self.prefix);
        let mut from = self.prefix.clone().into_bytes();
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if snapshot.revision > 0 {
                options = options.with_revision(snapshot.revision);
            }
            let page = limited(self.client.kv_client().get(from, Some(options))).await?;
            if snapshot.revision == 0 {
                snapshot.revision = page.header().map_or(0, ResponseHeader::revision);
            }
            for kv in page.kvs() {
                match self.change(kv, true) {
                    Some(Change::Put(id, holding, revision)) => snapshot.ids.push((id, holding, revision)),
                    Some(Change::Relay(number, Some(entry), _)) => {
                        drop(snapshot.relays.insert(number, entry));
                    }
                    Some(Change::Mark(mark)) => snapshot.mark = mark,
                    Some(Change::Relay(_, None, _) | Change::Deleted(..)) | None => {}
                }
            }
            match page.kvs().last() {
                // The next key there can be.
                Some(last) if page.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok(snapshot),
            }
        }
    }

    /// Everything that changes from this revision on.
    pub(super) async fn watch(&self, from: Revision) -> Result<WatchStream, StoreError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from).with_progress_notify();
        limited(self.client.watch_client().watch(self.prefix.clone(), Some(options))).await
    }

    /// What comes next on a watch. Cancel-safe.
    pub(super) async fn changes(&self, watch: &mut WatchStream) -> Result<Vec<Change>, StoreError> {
        let response = watch.message().await?.ok_or(StoreError::Ended("watch"))?;
        if response.compact_revision() > 0 {
            return Err(StoreError::Compacted);
        }
        if response.canceled() {
            return Err(StoreError::Ended("watch"));
        }
        let change =
            |event: &etcd_client::Event| self.change(event.kv()?, event.event_type() == EventType::Put);
        Ok(response.events().iter().filter_map(change).collect())
    }

    /// What a key and its value say. What is not ours, or cannot be read, is passed over: it must not stop the rest.
    fn change(&self, kv: &KeyValue, is_there: bool) -> Option<Change> {
        let key = text(kv.key());
        let key = key.strip_prefix(&self.prefix)?;
        if let Some(id) = key.strip_prefix("ids/") {
            let id: Id = id.parse().inspect_err(|_| warn!(key, "etcd has a key that is no ID")).ok()?;
            if !is_there {
                return Some(Change::Deleted(id, kv.mod_revision()));
            }
            let (holding, revision) = holding_of(kv)?;
            return Some(Change::Put(id, holding, revision));
        }
        if let Some(number) = key.strip_prefix("relays/") {
            let number =
                number.parse().inspect_err(|_| warn!(key, "etcd has a key that is no relay")).ok()?;
            let entry = is_there.then(|| serde_json::from_slice(kv.value())).transpose();
            let entry = entry.inspect_err(|error| warn!(key, %error, "etcd has a relay that cannot be read"));
            return Some(Change::Relay(number, entry.ok().flatten(), kv.mod_revision()));
        }
        (key == "mark").then(|| Change::Mark(is_there.then(|| text(kv.value()))))
    }
}

/// Files are read for each connection, so that they can be renewed.
fn tls_options(etcd: &EtcdConfig) -> Result<TlsOptions, StoreError> {
    let read =
        |file: &PathBuf| fs::read(file).map_err(|source| StoreError::File { file: file.clone(), source });
    let mut tls = TlsOptions::new();
    tls = match &etcd.ca {
        Some(file) => tls.ca_certificate(Certificate::from_pem(read(file)?)),
        None => tls.with_enabled_roots(),
    };
    if let Some(files) = &etcd.certificate {
        tls = tls.identity(Identity::from_pem(read(&files.certificate)?, read(&files.key)?));
    }
    Ok(tls)
}

fn holding_of(kv: &KeyValue) -> Option<(Holding, Revision)> {
    match serde_json::from_slice(kv.value()) {
        Ok(holding) => Some((holding, kv.mod_revision())),
        Err(error) => {
            warn!(key = text(kv.key()), %error, "etcd has an ID that cannot be read");
            None
        }
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Our own types have nothing that JSON has not.
    serde_json::to_vec(value).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first key behind all with this prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

async fn limited<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Silent),
    }
}
