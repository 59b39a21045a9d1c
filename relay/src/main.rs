//! The relay's program: read the command line, bind, say where, run until told to stop.

use anyhow::{Context, anyhow};
use clap::Parser;
use converge_certs::Identity;
use converge_proto::{RelayUrl, version::ProtocolVersion};
use converge_relay::{Config, Relay, Stopped};
use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Pairs CI jobs that run converge-agent with people who run converge, and copies bytes it cannot read.
#[derive(Parser)]
#[command(version, long_version = long_version(), max_term_width = 100)]
struct Arguments {
    /// One port for everything: UDP for QUIC, TCP for HTTPS and WebSocket
    #[arg(long, env = "CONVERGE_LISTEN", value_name = "ADDR", default_value = "[::]:4433")]
    listen: SocketAddr,
    /// Also listen for cleartext HTTP, for use behind a balancer that ends TLS
    #[arg(long, env = "CONVERGE_HTTP", value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Certificate chain in PEM; without it a self-signed one is made and its pin is part of the URL
    #[arg(long, env = "CONVERGE_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "CONVERGE_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Where the self-signed certificate is kept
    #[arg(long, env = "CONVERGE_STATE_DIR", value_name = "DIR", default_value = "converge-relay-state")]
    state_dir: PathBuf,
    /// The URL under which people reach this relay, when it is not simply its address
    #[arg(long, env = "CONVERGE_PUBLIC_URL", value_name = "URL")]
    public_url: Option<RelayUrl>,
    /// After a signal to stop, let sessions go on for at most this long; a second signal stops at once
    #[arg(long, env = "CONVERGE_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
}

fn long_version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (protocol {})", ProtocolVersion::list()).leak()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    converge_certs::install_provider();
    let filter = EnvFilter::try_from_env("CONVERGE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("converge-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let self_signed = arguments.cert.is_none();
    let has_public_url = arguments.public_url.is_some();
    let identity = match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => Identity::from_files(cert, key),
        _ => Identity::self_signed(&arguments.state_dir, &names(&arguments)),
    };
    let identity = identity.map_err(|error| anyhow!("{error}; see --cert, --key and --state-dir"))?;
    let config = Config {
        http: arguments.http,
        public_url: arguments.public_url,
        self_signed,
        drain_timeout: arguments.drain_timeout,
        ..Config::new(arguments.listen, identity)
    };
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

/// Names for a new self-signed certificate. Peers go by its pin; the names are for people who look at it.
fn names(arguments: &Arguments) -> Vec<String> {
    let public = arguments.public_url.as_ref().map(RelayUrl::host);
    public.into_iter().chain(["localhost".to_owned()]).collect()
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
