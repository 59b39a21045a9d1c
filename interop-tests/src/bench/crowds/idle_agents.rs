//! What idle agents cost, and how fast they come.

use super::{Scene, kib_each, mib};
use crate::{Carrier, bench::goal::Goal, crowd::Crowd};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Memory per idle agent, and registrations per second.
///
/// # Errors
/// When one cannot register, or is lost.
pub async fn print(agents: u32, goals: &[f64], settling: Duration) -> Result<()> {
    println!("\n{agents} idle agents; the generator shares the machine with the relay\n");
    println!(
        "| carrier | registrations/s | relay before, MiB | relay with agents, MiB | KiB per agent |\n\
         | --- | --- | --- | --- | --- |"
    );
    for (carrier, goal) in Carrier::ALL.into_iter().zip(goals) {
        let scene = Scene::new(carrier)?;
        // What the first ones cost is the relay's own.
        drop(Crowd::register(&scene.url, carrier, 10).await?);
        let before = scene.resident_after(Duration::from_secs(1)).await?;
        let gone = || scene.relay.process.log().matches("agent gone").count();
        let gone_before = gone();
        let begun = Instant::now();
        let crowd = Crowd::register(&scene.url, carrier, agents).await?;
        let rate = f64::from(agents) / begun.elapsed().as_secs_f64();
        let after = scene.resident_after(settling).await?;
        let each = kib_each(before, after, agents);
        println!(
            "| {carrier} | {rate:.0} | {:.1} | {:.1} | {each:.1}; {} |",
            mib(before),
            mib(after),
            Goal::AtMost(*goal).verdict(each),
        );
        ensure!(gone() == gone_before, "an agent was lost:\n{}", scene.relay.process.log());
        drop(crowd);
    }
    Ok(())
}
