//! `make bench`, second part: what many agents and many sessions cost a relay.

use anyhow::Result;
use clap::Parser;
use converge_interop_tests::{
    bench::{
        crowds::{closed_sessions, idle_agents, idle_sessions, parallel_sessions},
        half_closed,
        stolen::Processors,
    },
    crowd::raise_descriptors,
};
use std::{process::ExitCode, time::Duration};

/// Memory per idle agent and per idle session, what closed sessions leave, many sessions at once, and connections that
/// are half-closed. 0 of something leaves it out.
#[derive(Parser)]
struct Arguments {
    /// How many agents
    #[arg(long, default_value_t = 10_000)]
    agents: u32,
    /// What one may have resident on QUIC and on WebSocket, in KiB: the goals
    #[arg(long, default_values_t = [24.0, 64.0], num_args = 2)]
    goals: Vec<f64>,
    /// How many idle sessions
    #[arg(long, default_value_t = 1000)]
    sessions: u32,
    /// What one may have resident on QUIC, in KiB: the goal
    #[arg(long, default_value_t = 24.0)]
    session_goal: f64,
    /// How many sessions move bytes at once, at most 512
    #[arg(long, default_value_t = 200)]
    parallel: u32,
    /// For how many seconds they are watched
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many sessions are opened and closed, three times
    #[arg(long, default_value_t = 1000)]
    closed: u32,
    /// How many connections are half-closed
    #[arg(long, default_value_t = 100)]
    half_closed: usize,
    /// How many seconds everything is left alone before the relay's memory is looked at
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

#[tokio::main]
async fn bench(arguments: &Arguments) -> Result<()> {
    raise_descriptors();
    let begin = Processors::now()?;
    let settling = Duration::from_secs(arguments.settle_seconds);
    if arguments.agents > 0 {
        idle_agents::print(arguments.agents, &arguments.goals, settling).await?;
    }
    if arguments.sessions > 0 {
        idle_sessions::print(arguments.sessions, arguments.session_goal, settling).await?;
    }
    if arguments.parallel > 0 {
        parallel_sessions::print(arguments.parallel, Duration::from_secs(arguments.seconds.max(1))).await?;
    }
    if arguments.closed > 0 {
        closed_sessions::print(arguments.closed, settling).await?;
    }
    if arguments.half_closed > 0 {
        tokio::task::block_in_place(|| half_closed::print(arguments.half_closed, settling))?;
    }
    println!("\n{}", begin.line()?);
    Ok(())
}
