//! The relays that act as one, and how each of them is.

use super::{
    authorization::MayRead,
    problem::Problems,
    wide::{self, Reach},
};
use crate::{
    cluster::{Cluster, Health},
    shared::Shared,
};
use axum::{Json, extract::State};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

/// One of several relays that act as one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Relay {
    /// Its number.
    #[schema(minimum = 1, maximum = 4095)]
    number: u16,
    /// Whether it is the one that was asked.
    asked: bool,
    /// Where the other relays reach it.
    address: String,
    /// Where agents and clients reach it and no other, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Of its program.
    version: String,
    /// Whether it is about to stop.
    draining: bool,
    /// Links to it from the relay that was asked. They are made when they are wanted, and for a while.
    links: usize,
    /// Streams on these: sessions that go on to it, and questions.
    streams: usize,
    /// Why it could not be reached the last time, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What it says of itself now; missing when it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    now: Option<Now>,
}

/// What a relay says of itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Now {
    /// Agents that are at it.
    agents: usize,
    /// Sessions with them.
    sessions: usize,
    /// Whether it reaches the registry of the cluster. Otherwise it gives no new IDs.
    registry_up: bool,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registry_failure: Option<String>,
}

/// The relays of a cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Relays {
    /// By number; none where a relay is alone.
    relays: Vec<Relay>,
    /// Those that have not answered in time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<u16>, required = false)]
    unreachable: Vec<u16>,
}

impl Relay {
    fn here(shared: &Shared, cluster: &Cluster) -> Self {
        let member = cluster.member();
        Self {
            number: member.number.get(),
            asked: true,
            address: member.address.clone(),
            url: member.url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: shared.draining.is_cancelled(),
            links: 0,
            streams: 0,
            failure: None,
            now: Some(Now::of(shared)),
        }
    }

    fn other(health: Health, now: Option<Now>) -> Self {
        let Health { relay, entry, links, streams, failure } = health;
        Self {
            number: relay.get(),
            asked: false,
            address: entry.address,
            url: entry.url,
            version: entry.version,
            draining: entry.draining,
            links,
            streams,
            failure,
            now,
        }
    }
}

impl Now {
    fn of(shared: &Shared) -> Self {
        let (agents, sessions) = shared.directory.counts();
        let registry_failure = shared.registry.outage();
        Self { agents, sessions, registry_up: registry_failure.is_none(), registry_failure }
    }
}

/// The relays that act as one, and how each of them is
#[utoipa::path(
    get, path = "/relays", operation_id = "listRelays", tag = "relays",
    responses((status = 200, description = "All of them.", body = Relays), Problems),
)]
pub(super) async fn list(
    MayRead(grant): MayRead,
    reach: Reach,
    State(shared): State<Arc<Shared>>,
) -> Json<Relays> {
    let Some(cluster) = &shared.cluster else {
        return Json(Relays { relays: Vec::new(), unreachable: Vec::new() });
    };
    let here = Relay::here(&shared, cluster);
    if reach == Reach::Here {
        return Json(Relays { relays: vec![here], unreachable: Vec::new() });
    }
    let asking = wide::others(&shared).into_iter().map(|relay| {
        let (shared, grant) = (&shared, &grant);
        async move {
            let answer = wide::get_soon(shared, relay, grant, "relays").await.ok()?;
            let now = answer.get("relays")?.get(0)?.get("now")?.clone();
            Some((relay, serde_json::from_value::<Now>(now).ok()?))
        }
    });
    let mut answers: BTreeMap<_, _> = join_all(asking).await.into_iter().flatten().collect();
    // Afterwards: what has failed just now is known by then.
    let others = cluster.health().into_iter().map(|health| {
        let now = answers.remove(&health.relay);
        Relay::other(health, now)
    });
    let mut relays: Vec<_> = others.chain([here]).collect();
    relays.sort_by_key(|relay| relay.number);
    let unreachable = relays.iter().filter(|relay| relay.now.is_none()).map(|relay| relay.number).collect();
    Json(Relays { relays, unreachable })
}
