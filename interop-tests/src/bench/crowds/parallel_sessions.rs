//! Many sessions with one agent that all move bytes at the same time.

use super::{Scene, mib};
use crate::{
    Carrier,
    bench::table::median,
    crowd::{Crowd, Visitor},
};
use anyhow::Result;
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};

/// So much is more than any session moves while it is watched.
const WITHOUT_END: u64 = 1 << 40;
/// How long they may take to reach their speeds.
const RAMP: Duration = Duration::from_secs(2);

/// How long it takes until all are open, what they move together, and how equal their shares are.
///
/// # Errors
/// When one cannot be opened, or ends.
pub async fn print(sessions: u32, watched: Duration) -> Result<()> {
    println!(
        "\n{sessions} sessions with one agent, opened at once, that all fetch bytes as fast as they come, for {} s; ends of \
         sessions and no SSH share the machine with the relay\n",
        watched.as_secs()
    );
    println!(
        "| carrier | all open after, s | MiB/s together | least, median, most of one, MiB/s | least : most | CPU seconds of the \
         relay per GiB | relay's peak memory, MiB |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    for carrier in Carrier::ALL {
        let scene = Scene::new(carrier)?;
        let _crowd = Crowd::dial(&scene.url, carrier, 1).await?;
        let begun = Instant::now();
        let mut visitors = try_join_all((0..sessions).map(|_| scene.visit(0))).await?;
        let open_after = begun.elapsed().as_secs_f64();
        for visitor in &mut visitors {
            visitor.ask_for(WITHOUT_END).await?;
        }
        tokio::time::sleep(RAMP).await;
        let (before, cpu_before) = (received(&visitors), scene.relay.process.cpu_time()?);
        let begun = Instant::now();
        tokio::time::sleep(watched).await;
        let (after, cpu_after) = (received(&visitors), scene.relay.process.cpu_time()?);
        let seconds = begun.elapsed().as_secs_f64();
        let rates = after.iter().zip(&before).map(|(after, before)| mib(after - before) / seconds);
        let rates: Vec<_> = rates.collect();
        let sum: f64 = rates.iter().sum();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let gib = sum * seconds / 1024.0;
        println!(
            "| {carrier} | {open_after:.2} | {sum:.0} | {least:.2}, {:.2}, {most:.2} | {:.2} | {:.2} | {:.1} |",
            median(&rates),
            least / most,
            cpu_after.saturating_sub(cpu_before).as_secs_f64() / gib,
            mib(scene.relay.process.peak_memory_bytes()?),
        );
        try_join_all(visitors.into_iter().map(Visitor::give_up)).await?;
    }
    Ok(())
}

fn received(visitors: &[Visitor]) -> Vec<u64> {
    visitors.iter().map(Visitor::received).collect()
}
