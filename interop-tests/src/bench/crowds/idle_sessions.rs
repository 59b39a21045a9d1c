//! What idle sessions cost.

use super::{SESSIONS_PER_AGENT, Scene, kib_each, mib};
use crate::{
    Carrier,
    bench::goal::Goal,
    crowd::{Crowd, Visitor},
};
use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};

/// The first sessions, whose cost is that of the relay and of its links with agents.
const FIRST: u32 = 2;

/// Memory per idle session, with the client's link and the agent's stream, and sessions per second.
///
/// # Errors
/// When one cannot be opened, or is lost.
pub async fn print(sessions: u32, quic_goal: f64, settling: Duration) -> Result<()> {
    println!(
        "\n{sessions} idle sessions, {SESSIONS_PER_AGENT} of each agent, each of a client with a link of its own\n"
    );
    println!(
        "| carrier | sessions/s | relay before, MiB | relay with sessions, MiB | KiB per session |\n\
         | --- | --- | --- | --- | --- |"
    );
    for carrier in Carrier::ALL {
        let scene = Scene::new(carrier)?;
        let agents = sessions.div_ceil(SESSIONS_PER_AGENT);
        let _crowd = Crowd::dial(&scene.url, carrier, agents).await?;
        for visitor in scene.visit_all(FIRST * agents, agents).await? {
            visitor.leave().await?;
        }
        scene.wait_until_they_are_gone(agents)?;
        let before = scene.resident_after(settling).await?;
        let begun = Instant::now();
        let visitors = scene.visit_all(sessions, agents).await?;
        let rate = f64::from(sessions) / begun.elapsed().as_secs_f64();
        let after = scene.resident_after(settling).await?;
        ensure!(
            scene.sessions()? == u64::from(sessions),
            "a session was lost:\n{}",
            scene.relay.process.log()
        );
        let each = kib_each(before, after, sessions);
        let verdict = match carrier {
            Carrier::Quic => format!("; {}", Goal::AtMost(quic_goal).verdict(each)),
            Carrier::WebSocket => String::new(),
        };
        println!("| {carrier} | {rate:.0} | {:.1} | {:.1} | {each:.1}{verdict} |", mib(before), mib(after));
        // Left alone, they would look for the next relay in the place of this one.
        try_join_all(visitors.into_iter().map(Visitor::give_up)).await?;
    }
    Ok(())
}
