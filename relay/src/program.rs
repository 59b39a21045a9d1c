//! The relay as a program: read the configuration, bind, say where, run until told to stop.

use crate::{
    command_line::{Action, CommandLine},
    config::{self, Config, Loaded, Problems, resolve},
    server::{Relay, Stopped},
};
use anyhow::{Context, anyhow};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status when the configuration is wrong, as of a wrong command line: starting again does not help.
const BAD_CONFIGURATION: u8 = 2;

/// Does what the command line says.
pub fn run(command_line: &CommandLine) -> ExitCode {
    converge_certs::install_provider();
    let done = match command_line.action() {
        Action::Run => configure(command_line).map(start),
        Action::CheckConfig => check(command_line).map(|report| print(&report)),
        Action::ExampleConfig => Ok(print(&config::example::file())),
    };
    done.unwrap_or_else(|problems| {
        for line in problems.to_string().lines() {
            eprintln!("converge-relay: {line}");
        }
        ExitCode::from(BAD_CONFIGURATION)
    })
}

fn configure(command_line: &CommandLine) -> Result<Config, Problems> {
    resolve::resolve(&Loaded::new(command_line)?)
}

fn check(command_line: &CommandLine) -> Result<String, Problems> {
    let loaded = Loaded::new(command_line)?;
    resolve::check(&loaded)?;
    Ok(loaded.to_string())
}

/// Whoever reads it may have read enough.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("converge-relay: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn start(config: Config) -> ExitCode {
    let ansi = io::stderr().is_terminal();
    let filter = config.live.log.filter();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).init();
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("converge-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    let has_public_url = config.public_url.is_some();
    let relay =
        Relay::bind(config).map_err(|error| anyhow!("{error}; choose addresses with --listen and --http"))?;
    announce(&relay, has_public_url);

    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let signals = wait_for_signals(stop.clone(), stop_now.clone())?;
    let stopped = relay.run(stop, stop_now).await;
    signals.abort();
    match stopped {
        Stopped::Clean => tracing::info!("stopped; every session had ended"),
        Stopped::SessionsCut => tracing::info!("stopped; sessions were cut"),
    }
    Ok(())
}

/// What is copied goes to standard output; the rest is log.
fn announce(relay: &Relay, has_public_url: bool) {
    let addresses = relay.addresses();
    println!("relay: {}", addresses.url);
    if let Some(http) = addresses.http {
        println!("http:  ws://{http}");
    }
    tracing::info!(listen = %addresses.listen, "listening");
    if !has_public_url && addresses.listen.ip().is_unspecified() {
        tracing::info!(
            "the URL above is for this machine; --public-url says under which name others reach it"
        );
    }
}

/// The first signal drains, the second ends.
fn wait_for_signals(
    stop: CancellationToken,
    stop_now: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(tokio::spawn(async move {
        for token in [stop, stop_now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        }
    }))
}
