//! What sessions leave behind in a relay that have been closed: nothing.

use super::{AT_ONCE, SESSIONS_PER_AGENT, Scene, kib_each, mib};
use crate::{Carrier, crowd::Crowd};
use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::time::Duration;

/// What each of them fetches: enough to fill buffers.
const BYTES_EACH: u64 = 256 * 1024;
/// Beyond this from one time to the next, something is left behind by each: sizes that the allocator likes are smaller.
const MOST_GROWTH_BYTES: u64 = 4 * 1024 * 1024;

/// The relay's memory after so many sessions were opened and closed, three times. The first time warms up.
///
/// # Errors
/// When a session stays open in the relay, or the last time has left much more than the one before it.
pub async fn print(sessions: u32, settling: Duration) -> Result<()> {
    println!(
        "\n{sessions} sessions opened and closed, three times; each fetches {} KiB\n",
        BYTES_EACH / 1024
    );
    println!(
        "| carrier | relay before, MiB | after the first | the second | the third | bytes left by each of the third |\n\
         | --- | --- | --- | --- | --- | --- |"
    );
    for carrier in Carrier::ALL {
        let scene = Scene::new(carrier)?;
        let agents = sessions.div_ceil(SESSIONS_PER_AGENT);
        let _crowd = Crowd::dial(&scene.url, carrier, agents).await?;
        let before = scene.resident_after(settling).await?;
        let mut afterwards = [0; 3];
        for after in &mut afterwards {
            open_and_close(&scene, sessions, agents).await?;
            scene.wait_until_they_are_gone(agents)?;
            *after = scene.resident_after(settling).await?;
        }
        let [first, second, third] = afterwards;
        println!(
            "| {carrier} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
            mib(before),
            mib(first),
            mib(second),
            mib(third),
            kib_each(second, third, sessions) * 1024.0
        );
        ensure!(
            third <= second + MOST_GROWTH_BYTES,
            "{sessions} sessions that were closed have left {:.1} MiB in the relay",
            mib(third - second)
        );
    }
    Ok(())
}

async fn open_and_close(scene: &Scene, sessions: u32, agents: u32) -> Result<()> {
    let visits = stream::iter(0..sessions).map(|number| async move {
        let mut visitor = scene.visit(number % agents).await?;
        visitor.ask_for(BYTES_EACH).await?;
        let received = visitor.leave().await?;
        ensure!(received == BYTES_EACH, "a session has brought {received} bytes, not {BYTES_EACH}");
        Ok(())
    });
    visits.buffer_unordered(AT_ONCE).try_collect().await
}
