//! `make bench`, first part: speed and memory on this machine alone beside direct OpenSSH, measured in one run and printed
//! as tables of ratios.
//!
//! Every round measures every way once, one after the other, so that what else the machine does meets all of them
//! alike. The figures are medians over the rounds; a ratio is between figures of the same run and the same cipher.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_interop_tests::{
    bench::{
        loopback::{Measure, Results, Route, Way, Work, json, markdown},
        stolen::Processors,
    },
    files::write_random,
    programs,
};
use std::{fs, path::PathBuf, process::ExitCode};

/// Speed and memory of ssh and sftp through relay and agent, beside direct OpenSSH on the same machine.
#[derive(Parser)]
struct Arguments {
    /// What is copied, in MiB
    #[arg(long, default_value_t = 512)]
    mib: u32,
    /// How many times everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many sessions are opened per round to time their set-up
    #[arg(long, default_value_t = 10)]
    sessions: usize,
    /// Only routes that have one of these in their names, and the direct ones that they are compared with
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Write all figures into this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let begin = Processors::now()?;
    let directory = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
    let routes = Route::start(&wanted(arguments)?, directory.path())?;
    let file = directory.path().join("file");
    write_random(&file, u64::from(arguments.mib) * 1024 * 1024)?;
    let work = Work { file, mib: arguments.mib, sessions: arguments.sessions };

    let mut results: Vec<_> = routes.iter().map(|route| Results::new(route.way)).collect();
    for round in 1..=arguments.rounds {
        for (route, results) in routes.iter().zip(&mut results) {
            eprintln!("round {round} of {}: {}", arguments.rounds, route.way.name());
            for (measure, figures) in Measure::ALL.into_iter().zip(&mut results.figures) {
                figures.push(route.measure(measure, &work)?);
            }
        }
    }
    println!("{}", programs::version(&programs::installed("ssh")?, "-V")?);
    println!(
        "{} MiB, {} rounds, {} sessions a round; median (least to most); x: of direct with the same cipher and MTU\n",
        arguments.mib, arguments.rounds, arguments.sessions
    );
    println!("{}", markdown(&results));
    print_memory(&routes)?;
    println!("\n{}", begin.line()?);
    if let Some(file) = &arguments.json {
        let figures = format!("{:#}\n", json(&results));
        fs::write(file, figures).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What is measured, with what it is compared with.
fn wanted(arguments: &Arguments) -> Result<Vec<Way>> {
    let is_named = |way: Way| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| way.name().contains(only.as_str()))
    };
    let named: Vec<_> = Way::ALL.into_iter().filter(|way| is_named(*way)).collect();
    ensure!(!named.is_empty(), "no route has {:?} in its name", arguments.only);
    let is_wanted = |way: &Way| named.contains(way) || named.iter().any(|named| named.direct() == *way);
    let mut wanted: Vec<_> = Way::ALL.into_iter().filter(is_wanted).collect();
    if !rustix::process::geteuid().is_root() {
        eprintln!("without root there is no network with an MTU of 1500: those routes are left out");
        wanted.retain(|way| !way.has_small_packets());
    }
    Ok(wanted)
}

fn print_memory(routes: &[Route]) -> Result<()> {
    println!("| peak memory, MiB | relay | agent |\n| --- | --- | --- |");
    for route in routes {
        let Some((relay, agent)) = route.programs() else { continue };
        let (relay, agent) = (relay.peak_memory_bytes()?, agent.peak_memory_bytes()?);
        println!("| {} | {:.1} | {:.1} |", route.way.name(), mib(relay), mib(agent));
    }
    Ok(())
}

/// A figure for people: what a float loses of a byte count does not show.
#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
