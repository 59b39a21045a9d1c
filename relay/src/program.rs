//! The relay as a program: read the configuration, bind, say where, run until told to stop.

mod activation;
mod cluster;
mod control;
mod drain;
mod log;
mod reload;
mod service_manager;
mod signals;

use self::{
    control::Control,
    log::Log,
    reload::{Read, Reloading},
    signals::Signals,
};
use crate::{
    access::create::NewToken,
    command_line::{Action, ClusterCommand, CommandLine, CreateToken, TokenCommand, values::Time},
    config::{self, Config, Loaded, Problems, resolve},
    limits::descriptors,
    server::{Counts, Relay, Stopped},
    sockets::Sockets,
};
use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// The exit status when the configuration is wrong, as of a wrong command line: starting again does not help.
const BAD_CONFIGURATION: u8 = 2;
/// How long blocking work may go on when everything else has ended.
const LAST_WORK: Duration = Duration::from_millis(500);

/// Does what the command line says.
pub fn run(command_line: &CommandLine) -> ExitCode {
    converge_certs::install_provider();
    if let Some(TokenCommand::Create(create)) = command_line.token() {
        return create_token(create);
    }
    if let Some(command) = command_line.cluster() {
        return make_cluster_files(&command);
    }
    if let Some(command) = command_line.drain() {
        return drain::drain(&command).unwrap_or_else(|error| failed(&error));
    }
    let done = match command_line.action() {
        Action::Run => start(command_line),
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

fn create_token(create: CreateToken) -> ExitCode {
    let CreateToken { name, scope, expires, id_pattern, tokens_file } = create;
    let token = NewToken { name, scopes: scope, expires: expires.map(|Time(time)| time), ids: id_pattern };
    let made = token.make(rand::random(), SystemTime::now()).and_then(|(secret, entry)| {
        match &tokens_file {
            Some(path) => token.append(path, &entry)?,
            None => {
                eprintln!("converge-relay: to let it in, add this to the file of --tokens-file:\n\n{entry}");
            }
        }
        Ok(secret)
    });
    match made {
        Ok(secret) => print(&format!("{secret}\n")),
        Err(error) => {
            eprintln!("converge-relay: {error}");
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn make_cluster_files(command: &ClusterCommand) -> ExitCode {
    match cluster::make(command) {
        Ok(made) => print(&made),
        Err(error) => {
            eprintln!("converge-relay: {error}");
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

/// Everything is checked before anything is opened; but where the relay listens, the service manager may have decided.
fn start(command_line: &CommandLine) -> Result<ExitCode, Problems> {
    // First, as there must be no other thread yet.
    let (sockets, passed) = match activation::sockets() {
        Ok(sockets) => sockets,
        Err(error) => return Ok(failed(&error)),
    };
    let loaded = Loaded::new(command_line)?.on(passed);
    let config = resolve::resolve(&loaded)?;
    let log = Log::install(&config.live.log, config.log_format);
    let read = Read { command_line: command_line.clone(), passed, running: loaded.given };
    Ok(serve(config, sockets, read, log).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("converge-relay: {error:#}");
    ExitCode::FAILURE
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

/// What hangs on a disk, or on who reads its output, does not keep a relay that has ended.
fn serve(config: Config, sockets: Sockets, read: Read, log: Log) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve_until_stopped(config, sockets, read, log));
    runtime.shutdown_timeout(LAST_WORK);
    served
}

async fn serve_until_stopped(config: Config, sockets: Sockets, read: Read, log: Log) -> anyhow::Result<()> {
    let has_public_url = config.public_url.is_some();
    let state_dir = config.state_dir.clone();
    descriptors::raise(&config.live.limits);
    let relay = Relay::bind_with(config, sockets)?;
    let signals = Signals::new()?;
    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let reload = relay.reload();
    let mut tasks = JoinSet::new();
    let reloading = Reloading { read, reload: reload.clone(), log };
    signals.serve(&mut tasks, stop.clone(), stop_now.clone(), reloading);
    let (counts, ended) = (relay.counts(), watch::Sender::new(None));
    let controlled = control(state_dir.as_deref(), counts.clone(), stop.clone(), &ended);
    announce(&relay, has_public_url);
    service_manager::ready("no agents yet");
    tasks.spawn(service_manager::keep_told(counts.clone()));
    let tell_of_the_end = async {
        stop.cancelled().await;
        service_manager::stopping(counts.longest_drain());
    };
    let (stopped, ()) = tokio::join!(relay.run(stop.clone(), stop_now), tell_of_the_end);
    ended.send_replace(Some(stopped));
    if let Some(controlled) = controlled {
        let _ = tokio::time::timeout(LAST_WORK, controlled).await;
    }
    match stopped {
        Stopped::Clean => tracing::info!("stopped; every session had ended"),
        Stopped::SessionsCut => tracing::info!("stopped; sessions were cut"),
    }
    Ok(())
}

/// Listens for `converge-relay drain`, where that can be.
fn control(
    state_dir: Option<&Path>,
    counts: Counts,
    stop: CancellationToken,
    ended: &watch::Sender<Option<Stopped>>,
) -> Option<JoinHandle<()>> {
    match Control::open(state_dir?) {
        Ok(control) => Some(tokio::spawn(control.serve(counts, stop, ended.subscribe()))),
        Err(error) => {
            tracing::info!(
                "`converge-relay drain` will not find this relay, SIGTERM does the same: {error:#}"
            );
            None
        }
    }
}

/// What is copied goes to standard output; the rest is log.
fn announce(relay: &Relay, has_public_url: bool) {
    let addresses = relay.addresses();
    println!("relay: {}", addresses.url);
    if let Some(http) = addresses.http {
        println!("http:  ws://{http}");
    }
    if let Some(metrics) = addresses.metrics {
        println!("metrics: http://{metrics}/metrics");
    }
    tracing::info!(listen = %addresses.listen, "listening");
    if !has_public_url && addresses.listen.ip().is_unspecified() {
        tracing::info!(
            "the URL above is for this machine; --public-url says under which name others reach it"
        );
    }
}
