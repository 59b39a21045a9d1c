//! `make bench`, over networks: logins, transfers and typing over emulated lines, and what is felt of their failures, beside
//! direct OpenSSH on the same lines. Needs root, as the lab does.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_interop_tests::{
    Lab,
    bench::{
        measures::{self, Effort, Measure},
        peer::Kind,
        stolen::Processors,
        table::{self, Figure, Row},
    },
};
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

/// Logins, transfers, typing and failures over emulated lines, beside direct OpenSSH.
#[derive(Parser)]
struct Arguments {
    /// How many times everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many logins make one figure
    #[arg(long, default_value_t = 5)]
    logins: usize,
    /// For how many seconds a transfer is watched
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How many keys are typed for one figure
    #[arg(long, default_value_t = 200)]
    keys: usize,
    /// Only what has this in its name
    #[arg(long, default_value = "")]
    only: String,
    /// Write all figures into this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-network: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let wanted: Vec<&Measure> =
        measures::ALL.iter().filter(|measure| measure.name.contains(&arguments.only)).collect();
    ensure!(!wanted.is_empty(), "nothing that is measured has {:?} in its name", arguments.only);
    let effort = Effort {
        logins: arguments.logins.max(1),
        watch: Duration::from_secs(arguments.seconds.max(1)),
        keys: arguments.keys.max(1),
    };
    let mut rows: Vec<_> = wanted
        .into_iter()
        .map(|measure| Row { measure, figures: vec![Vec::new(); Kind::ALL.len()] })
        .collect();
    let begin = Processors::now()?;
    let mut tcp = String::new();
    for round in 0..arguments.rounds {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let lab = Lab::new("bench")?;
            tcp = measures::use_cubic(&lab)?;
            let mut peer = kind.start(&lab).with_context(|| kind.name())?;
            for row in &mut rows {
                let Row { measure, figures } = row;
                let Some(figures) = figures.get_mut(index) else { continue };
                // What there was nothing of the first time is not waited for again.
                if figures.len() < round {
                    continue;
                }
                eprintln!("round {} of {}: {}: {}", round + 1, arguments.rounds, kind.name(), measure.name);
                let before = Processors::now()?;
                let value = measure.run(&lab, &mut *peer, effort).with_context(|| kind.name())?;
                let stolen = Processors::now()?.stolen_since(before);
                figures.extend(value.map(|value| Figure { value, stolen }));
            }
        }
    }
    println!(
        "\n{} rounds; median (least to most) of those in which least of the processors went to other machines, with the part \
         of them that did from 5 % on. 200 Mbit/s with a queue of 1.25 MB and a round trip of 50 ms where there is a \
         transfer, 50 ms elsewhere; TCP has {tcp}\n",
        arguments.rounds
    );
    println!("{}\n{}", table::markdown(&rows), begin.line()?);
    if let Some(file) = &arguments.json {
        fs::write(file, format!("{:#}\n", table::json(&rows)))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
