//! The agent's program: read the command line, find out who may log in, run until told to stop.

// Doc comments of the arguments are the text of `--help`, where backticks would be printed.
#![allow(clippy::doc_markdown)]

use anyhow::{Context, anyhow, bail};
use clap::{Parser, ValueEnum};
use converge_agent::{Agent, AgentDir, Config, authorized_keys::AuthorizedKeys, signals};
use converge_proto::{CarrierChoice, Id, RelayUrl, version::ProtocolVersion};
use converge_transport::ProxyChoice;
use std::{fmt::Display, io::IsTerminal, io::Write, path::PathBuf, process::ExitCode, time::SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What is logged unless `CONVERGE_LOG` says otherwise. The certificate verifier's own lines say less than our errors.
const LOG: &str = "info,russh=warn,rustls_platform_verifier=off";
/// What `128 + signal` is for the two signals that stop an agent, as shells report it.
const STATUS_INTERRUPTED: u8 = 130;
const STATUS_TERMINATED: u8 = 143;

/// Opens the CI job it runs in for ssh, through a relay, to whoever has a key that is allowed.
#[derive(Parser)]
#[command(version, long_version = long_version(), max_term_width = 100)]
struct Arguments {
    /// The relay's URL, as the relay prints it (or as --relay)
    #[arg(value_name = "RELAY", conflicts_with = "relay", required_unless_present = "relay")]
    relay_argument: Option<RelayUrl>,
    /// The relay's URL: https:// tries QUIC, then WebSocket; quic://, wss:// and ws:// allow one carrier only
    #[arg(long, env = "CONVERGE_RELAY", value_name = "URL")]
    relay: Option<RelayUrl>,
    /// The ID under which people reach this job; the relay makes one up when it is missing or taken. With --dir it
    /// stays this agent's when the agent is started again
    #[arg(long, env = "CONVERGE_ID", value_name = "ID")]
    id: Option<Id>,
    /// Which carrier to use
    #[arg(long, env = "CONVERGE_TRANSPORT", value_name = "CARRIER", default_value = "auto")]
    transport: Transport,
    /// Who may log in: files in OpenSSH's authorized_keys format, read afresh at every login
    #[arg(long, env = "CONVERGE_AUTHORIZED_KEYS", value_name = "FILE", default_value = ".authorized_keys")]
    authorized_keys: Vec<PathBuf>,
    /// Shells to try before $SHELL, bash and sh
    #[arg(long, env = "CONVERGE_SHELLS", value_name = "LIST", value_delimiter = ',')]
    shells: Vec<PathBuf>,
    /// The agent directory; without it a new one in the temporary folder, removed at the end
    #[arg(long, env = "CONVERGE_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The proxy for WebSocket, http://[USER:PASSWORD@]HOST:PORT, https://, socks5:// or socks5h://, or none; without it
    /// HTTPS_PROXY, ALL_PROXY and NO_PROXY decide
    #[arg(long, env = "CONVERGE_PROXY", value_name = "URL", hide_env_values = true)]
    proxy: Option<String>,
    /// Accept any certificate of the relay. SSH stays end-to-end, but anybody in between can take the job's ID
    #[arg(long, env = "CONVERGE_INSECURE")]
    insecure: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Auto,
    Quic,
    Websocket,
}

fn long_version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (protocol {})", ProtocolVersion::list()).leak()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    converge_certs::install_provider();
    let filter = EnvFilter::try_from_env("CONVERGE_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match serve(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("converge-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(arguments: &Arguments) -> anyhow::Result<u8> {
    signals::reset_signals().context("cannot reset signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    if arguments.insecure {
        tracing::warn!("--insecure: the relay's certificate is not verified");
    }
    let directory = AgentDir::open(arguments.dir.as_deref()).map_err(whole)?;
    let agent = Agent::new(config(arguments, &directory)?)?;

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

fn config(arguments: &Arguments, directory: &AgentDir) -> anyhow::Result<Config> {
    let Some(relay) = arguments.relay.as_ref().or(arguments.relay_argument.as_ref()) else {
        bail!("no relay: give its URL");
    };
    let carriers = match arguments.transport {
        Transport::Auto => relay.carriers(),
        Transport::Quic => CarrierChoice::Quic,
        Transport::Websocket => CarrierChoice::WebSocket,
    };
    let working_dir = std::env::current_dir().context("cannot find out the working directory")?;
    // Files are read again at every login, and the working directory may be gone by then.
    let mut files: Vec<_> = arguments.authorized_keys.iter().map(|file| working_dir.join(file)).collect();
    let in_directory = directory.path().join(".authorized_keys");
    // A directory that was made just now can only be filled later; nobody is to be sent there in vain.
    let to_report = files.iter().chain((!directory.is_temporary()).then_some(&in_directory));
    let report = AuthorizedKeys::new(to_report).load_report(SystemTime::now());
    files.push(in_directory);
    let authorized_keys = AuthorizedKeys::new(files);
    for problem in report.problems() {
        tracing::debug!(%problem, "authorized keys");
    }
    if report.usable() == 0 {
        bail!("{report}");
    }
    Ok(Config {
        relay: relay.clone().with_carriers(carriers),
        insecure: arguments.insecure,
        // Read here and not by clap, whose error would show what was typed, and that may have a password in it.
        proxy: ProxyChoice::from_option(arguments.proxy.as_deref()).context("cannot use --proxy")?,
        id: arguments.id.clone(),
        agent_dir: directory.path().to_owned(),
        host_key: directory.host_key(rand::random()).map_err(whole)?,
        authorized_keys,
        shells: arguments.shells.clone(),
        working_dir,
    })
}

/// An error whose text names its cause already.
fn whole(error: impl Display) -> anyhow::Error {
    anyhow!("{error}")
}

/// All at once; a reader that has gone away does not matter.
fn print(mut out: impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
