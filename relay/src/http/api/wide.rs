//! What spans several relays that act as one: lists of all of them, and what is at another one.
//!
//! The relay that is asked asks the others, and puts together what they say. They answer for themselves alone ([`Reach`]).
//! Who asks was let in here; the others are told what that is good for.

use super::{
    page::PageSize,
    problem::{Kind, Problem},
};
use crate::{
    access::Grant,
    cluster::{
        answer::FromRelay,
        ask::{self, AskError, OnBehalf, Question},
    },
    shared::Shared,
};
use axum::{
    extract::FromRequestParts,
    http::{Method, StatusCode, Uri, header, request::Parts},
};
use bytes::Bytes;
use converge_proto::RelayNumber;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tracing::debug;

/// How long a list waits for another relay. Whoever reads it would rather have the rest.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long another relay may take for what only it knows: as long as a dial, and a moment.
const GET_TIMEOUT: Duration = Duration::from_secs(4);
/// How long for what it asks an agent, which may take ten seconds.
const ACTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// This relay and all others that there are.
    Cluster,
    /// This one alone: another relay asks, or there is no other.
    Here,
}

impl FromRequestParts<Arc<Shared>> for Reach {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Infallible> {
        let is_from_relay = parts.extensions.get::<FromRelay>().is_some();
        Ok(if is_from_relay || shared.cluster.is_none() { Self::Here } else { Self::Cluster })
    }
}

impl Reach {
    /// Whether this relay is to be asked: it is there, and another one than this.
    pub(super) fn has_other(self, shared: &Shared, relay: RelayNumber) -> bool {
        self == Self::Cluster && shared.relay_number() != Some(relay) && others(shared).contains(&relay)
    }
}

/// Something that is here, or another relay's words for what is there.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Entry<T> {
    Here(T),
    There(Value),
}

/// A part of a list: one relay's page of it.
#[derive(Debug)]
pub(super) struct Part<K, T> {
    /// In order.
    pub(super) entries: Vec<(K, T)>,
    /// From behind where there may be more.
    pub(super) next: Option<K>,
}

/// How a list is read that another relay has written.
pub(super) struct List<K> {
    /// The member of the answer, and the last part of the path.
    pub(super) name: &'static str,
    /// The member of an entry that it is ordered by.
    pub(super) key: &'static str,
    /// What that says.
    pub(super) read: fn(&Value) -> Option<K>,
}

impl<K> List<K> {
    /// Asks all others for the page that this request is for. Returns their pages, and who has not answered.
    pub(super) fn ask<T>(
        &self,
        shared: &Shared,
        reach: Reach,
        grant: &Grant,
        uri: &Uri,
    ) -> impl Future<Output = (Vec<Part<K, Entry<T>>>, Vec<u16>)> {
        let relays = if reach == Reach::Cluster { others(shared) } else { Vec::new() };
        let path = uri.path_and_query().map_or_else(|| self.name.to_owned(), |path| path.as_str().to_owned());
        let asking = relays.into_iter().map(move |relay| {
            let path = path.clone();
            async move {
                let path = path.trim_start_matches('/');
                let page = call(shared, relay, grant, Method::GET, path, Bytes::new(), LIST_TIMEOUT).await;
                let part = page.and_then(|page| self.part(page).ok_or_else(|| nonsense(relay)));
                part.map_err(|problem| {
                    debug!(%relay, ?problem, "a list is without another relay's part");
                    relay.get()
                })
            }
        });
        async {
            let (mut parts, mut unreachable) = (Vec::new(), Vec::new());
            for answer in join_all(asking).await {
                match answer {
                    Ok(part) => parts.push(part),
                    Err(relay) => unreachable.push(relay),
                }
            }
            (parts, unreachable)
        }
    }

    fn part<T>(&self, mut page: Value) -> Option<Part<K, Entry<T>>> {
        let next = page.get("next").map(|next| (self.read)(next).ok_or(())).transpose().ok()?;
        let Value::Array(entries) = page.get_mut(self.name)?.take() else { return None };
        let entries = entries.into_iter().map(|entry| {
            let key = entry.get(self.key).and_then(self.read)?;
            Some((key, Entry::There(entry)))
        });
        Some(Part { entries: entries.collect::<Option<_>>()?, next })
    }
}

/// One page of the pages of several relays, and from behind where the next one begins. What two relays have, because it
/// has just moved, is there once, as the first of them has it.
pub(super) fn merge<K: Ord + Clone, T>(
    here: Part<K, T>,
    there: Vec<Part<K, T>>,
    size: PageSize,
) -> (Vec<T>, Option<K>) {
    let mut end: Option<K> = None;
    let mut entries = Vec::new();
    for part in std::iter::once(here).chain(there) {
        entries.extend(part.entries);
        end = [end, part.next].into_iter().flatten().min();
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries.dedup_by(|(later, _), (earlier, _)| later == earlier);
    // Behind the end of the shortest page, its relay may have more.
    if let Some(end) = &end {
        entries.retain(|(key, _)| key <= end);
    }
    if entries.len() > size.0 {
        entries.truncate(size.0);
        end = entries.last().map(|(key, _)| key.clone());
    }
    (entries.into_iter().map(|(_, entry)| entry).collect(), end)
}

/// What only another relay knows, in its words.
///
/// # Errors
/// The other relay's, or [`Kind::RelayAway`].
pub(super) async fn get(
    shared: &Shared,
    relay: RelayNumber,
    grant: &Grant,
    path: &str,
) -> Result<Value, Problem> {
    call(shared, relay, grant, Method::GET, path, Bytes::new(), GET_TIMEOUT).await
}

/// The same of a list.
///
/// # Errors
/// As [`get`].
pub(super) async fn get_soon(
    shared: &Shared,
    relay: RelayNumber,
    grant: &Grant,
    path: &str,
) -> Result<Value, Problem> {
    call(shared, relay, grant, Method::GET, path, Bytes::new(), LIST_TIMEOUT).await
}

/// Has another relay do something.
///
/// # Errors
/// As [`get`]. It may have been done nevertheless.
pub(super) async fn post(
    shared: &Shared,
    relay: RelayNumber,
    grant: &Grant,
    path: &str,
    body: &Value,
) -> Result<(), Problem> {
    let body = Bytes::from(body.to_string());
    call(shared, relay, grant, Method::POST, path, body, ACTION_TIMEOUT).await.map(drop)
}

async fn call(
    shared: &Shared,
    relay: RelayNumber,
    grant: &Grant,
    method: Method,
    path: &str,
    body: Bytes,
    limit: Duration,
) -> Result<Value, Problem> {
    let Some(cluster) = &shared.cluster else { return Err(nonsense(relay)) };
    let path: Uri = format!("/api/v1/{path}").parse().map_err(|_| nonsense(relay))?;
    let on_behalf = OnBehalf { grant: grant.clone(), may_write: method != Method::GET };
    let question = Question { on_behalf, method, path, body, limit };
    let response = ask::ask(cluster, relay, question).await.map_err(|error| away(&error))?;
    if response.status() == StatusCode::OK {
        return serde_json::from_slice(response.body()).map_err(|_| nonsense(relay));
    }
    let problem: Problem = serde_json::from_slice(response.body()).map_err(|_| nonsense(relay))?;
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    Err(match wait {
        Some(seconds) => problem.retry_after(Duration::from_secs(seconds)),
        None => problem,
    })
}

fn away(error: &AskError) -> Problem {
    Problem::new(Kind::RelayAway, error.to_string())
}

fn nonsense(relay: RelayNumber) -> Problem {
    Problem::new(Kind::RelayAway, format!("relay {relay} has said what this one does not understand"))
}

/// The relays that there are beside this one.
pub(super) fn others(shared: &Shared) -> Vec<RelayNumber> {
    shared.cluster.as_ref().map_or_else(Vec::new, |cluster| cluster.others())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One relay's page of what it has.
    fn page(has: &[u32], after: Option<u32>, size: usize) -> Part<u32, u32> {
        let behind: Vec<_> = has.iter().copied().filter(|n| after.is_none_or(|after| *n > after)).collect();
        let next = (behind.len() > size).then(|| behind[size - 1]);
        Part { entries: behind.into_iter().take(size).map(|number| (number, number)).collect(), next }
    }

    #[test]
    fn pages_of_several_relays_are_one_list_without_gap_or_repetition() {
        let all: Vec<u32> = (0..500).collect();
        let of = |relay: fn(&u32) -> bool| all.iter().copied().filter(relay).collect::<Vec<_>>();
        // One has most, one little and that late, one nothing; and some are at two for a moment.
        let relays = [of(|n| n % 3 != 0 && *n < 450), of(|n| n % 3 == 0 || *n >= 449), of(|_| false)];
        for size in [1, 7, 100, 499, 500, 1000] {
            let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let [here, there @ ..] = relays.each_ref().map(|has| page(has, after, size));
                let (entries, next) = merge(here, there.into(), PageSize(size));
                assert!(entries.len() <= size && (next.is_none() || entries.len() == size), "{entries:?}");
                seen.extend(entries);
                pages += 1;
                if next.is_none() {
                    break;
                }
                after = next;
            }
            assert_eq!(seen, all, "{size}");
            assert!(pages <= 500 / size + 1, "{pages} pages of {size}");
        }
    }

    #[test]
    fn another_relays_page_is_read_whole_or_not_at_all() {
        let list = List { name: "sessions", key: "number", read: Value::as_u64 };
        let part = list.part::<()>(json!({"sessions": [{"number": 5, "new": true}], "next": 5})).unwrap();
        assert_eq!((part.entries.len(), part.entries[0].0, part.next), (1, 5, Some(5)));
        assert_eq!(serde_json::to_value(&part.entries[0].1).unwrap(), json!({"number": 5, "new": true}));
        for wrong in [
            json!([]),
            json!({}),
            json!({"sessions": 1}),
            json!({"sessions": [{}]}),
            json!({"sessions": [], "next": "x"}),
        ] {
            assert!(list.part::<()>(wrong.clone()).is_none(), "{wrong}");
        }
    }
}
