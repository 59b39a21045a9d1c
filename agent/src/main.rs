//! The agent's program: read the command line, find out who may log in, run until told to stop.

use anyhow::Context;
use clap::Parser;
use converge_agent::{
    Agent, AgentDir,
    command_line::{AgentArguments, CommandLine, whole},
    signals,
};
use std::{io::IsTerminal, io::Write, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What is logged unless `CONVERGE_LOG` says otherwise. The certificate verifier's own lines say less than our errors.
const LOG: &str = "info,russh=warn,rustls_platform_verifier=off";
/// What `128 + signal` is for the two signals that stop an agent, as shells report it.
const STATUS_INTERRUPTED: u8 = 130;
const STATUS_TERMINATED: u8 = 143;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    converge_certs::install_provider();
    let filter = EnvFilter::try_from_env("CONVERGE_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match serve(&command_line.agent) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("converge-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(arguments: &AgentArguments) -> anyhow::Result<u8> {
    signals::reset_signals().context("cannot reset signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    if arguments.relay.insecure {
        tracing::warn!("--insecure: the relay's certificate is not verified");
    }
    let directory = AgentDir::open(arguments.dir.as_deref()).map_err(whole)?;
    let agent = Agent::new(arguments.config(&directory)?)?;

    let stop = CancellationToken::new();
    let mut announcements = agent.announcements();
    let printing = tokio::spawn(async move {
        while announcements.changed().await.is_ok() {
            if let Some(announcement) = announcements.borrow_and_update().as_ref() {
                print(std::io::stdout(), &announcement.to_string());
            }
        }
    });
    let mut diagnoses = agent.diagnoses();
    let diagnosing = tokio::spawn(async move {
        while diagnoses.changed().await.is_ok() {
            if let Some(report) = diagnoses.borrow_and_update().as_ref() {
                let heading = "the relay is not reached yet, and the agent goes on trying; what gets through from here:";
                print(std::io::stderr(), &format!("converge-agent: {heading}\n\n{report}\n"));
            }
        }
    });
    let mut running = tokio::spawn(agent.run(stop.clone()));
    let status = tokio::select! {
        result = &mut running => {
            result.context("the agent failed")??;
            0
        }
        _ = terminate.recv() => STATUS_TERMINATED,
        _ = interrupt.recv() => STATUS_INTERRUPTED,
    };
    if status != 0 {
        stop.cancel();
        running.await.context("the agent failed")??;
    }
    printing.await.context("the agent failed")?;
    diagnosing.await.context("the agent failed")?;
    Ok(status)
}

/// All at once; a reader that has gone away does not matter.
fn print(mut out: impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
