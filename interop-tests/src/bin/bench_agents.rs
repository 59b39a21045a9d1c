//! `make bench`, second part: what many idle agents cost a relay, and how fast they come.
//!
//! The agents are real registrations from this process, each with a key of its own and a link that stays. The relay and
//! this process share the machine, so the rate is that of both together.

// Figures for people: what a float loses of a byte count does not show.
#![allow(clippy::cast_precision_loss)]

use anyhow::{Result, ensure};
use clap::Parser;
use converge_interop_tests::{Carrier, Relay, crowd::Crowd};
use converge_proto::RelayUrl;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Memory per idle agent, and registrations per second.
#[derive(Parser)]
struct Arguments {
    /// How many agents
    #[arg(long, default_value_t = 10_000)]
    agents: u32,
    /// What one may have resident on QUIC and on WebSocket, in KiB: the goals
    #[arg(long, default_values_t = [40.0, 64.0], num_args = 2)]
    goals: Vec<f64>,
    /// How long the agents are left alone before the relay's memory is looked at
    #[arg(long, default_value_t = 3)]
    settle_seconds: u64,
}

fn main() -> ExitCode {
    converge_certs::install_provider();
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-agents: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All come from one address here, and are to come as fast as they can.
const NO_LIMITS: &[&str] = &[
    "--max-connections=0",
    "--max-connections-per-address=0",
    "--max-agents=0",
    "--max-agents-per-address=0",
    "--handshake-rate=0",
    "--handshake-rate-per-address=0",
    "--max-handshakes=0",
];

#[tokio::main]
async fn bench(arguments: &Arguments) -> Result<()> {
    println!("\n{} idle agents; the generator shares the machine with the relay\n", arguments.agents);
    println!(
        "| carrier | registrations/s | relay before, MiB | relay with agents, MiB | KiB per agent | goal |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for (carrier, goal) in Carrier::ALL.into_iter().zip(&arguments.goals) {
        let directory = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
        let relay = Relay::start_with(directory.path(), "127.0.0.1:0", NO_LIMITS)?;
        let url: RelayUrl = relay.url.parse()?;
        // What the first ones cost is the relay's own.
        let first = Crowd::register(&url, carrier, 10).await?;
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let gone = |relay: &Relay| relay.process.log().matches("agent gone").count();
        let gone_before = gone(&relay);
        let before = relay.process.resident_memory_bytes()?;
        let begun = Instant::now();
        let crowd = Crowd::register(&url, carrier, arguments.agents).await?;
        let rate = f64::from(arguments.agents) / begun.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_secs(arguments.settle_seconds)).await;
        let after = relay.process.resident_memory_bytes()?;
        let each = after.saturating_sub(before) as f64 / f64::from(arguments.agents) / 1024.0;
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        println!(
            "| {carrier} | {rate:.0} | {:.1} | {:.1} | {each:.1} | {goal:.0}: {} |",
            mib(before),
            mib(after),
            if each <= *goal { "met" } else { "missed" },
        );
        ensure!(gone(&relay) == gone_before, "an agent was lost:\n{}", relay.process.log());
        drop(crowd);
    }
    Ok(())
}
