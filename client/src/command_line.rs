//! What may be typed.

// Doc comments here are the text of `--help`, where backticks and angle brackets would be printed.
#![allow(clippy::doc_markdown)]

use crate::{
    ask::{self, Question},
    config_file::ConfigFile,
    doctor,
    error::ClientError,
    handoff::Handoff,
    host_key, list, listen,
    openssh::{self, Program},
    operator::Operator,
    platform, proxy, reserve, ssh_config,
    target::{Target, TargetOptions, say},
    token,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use converge_proto::{Address, CarrierChoice, Id, RelayUrl, RelayUrls, version::ProtocolVersion};
use converge_transport::{DialOptions, ProxyChoice};
use std::{
    ffi::OsString,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Be in a CI job that runs converge-agent, with the ssh you have.
///
/// ADDRESS is what the agent prints: the whole URL, or ID or ID.FINGERPRINT when the relay is known from --relay,
/// CONVERGE_RELAY or the configuration file.
#[derive(Parser)]
#[command(name = "converge", version, long_version = long_version(), max_term_width = 100)]
pub struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Common {
    /// The relay's URL, for addresses that do not carry it; or several with commas, of which any will do
    #[arg(long, env = "CONVERGE_RELAY", value_name = "URL", global = true)]
    relay: Option<RelayUrls>,
    /// Which carrier to use, whatever the URL allows
    #[arg(long, env = "CONVERGE_TRANSPORT", value_name = "CARRIER", global = true)]
    transport: Option<Transport>,
    /// How long to wait for a job that has not started its agent yet, such as 10m
    #[arg(long, env = "CONVERGE_WAIT", value_name = "TIME", default_value = "0s", global = true, value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Accept any certificate of the relay; SSH's own host key check still holds
    #[arg(long, env = "CONVERGE_INSECURE", global = true)]
    insecure: bool,
    /// The proxy for WebSocket, http://[USER:PASSWORD@]HOST:PORT, https://, socks5:// or socks5h://, or none; without it
    /// HTTPS_PROXY, ALL_PROXY and NO_PROXY decide
    #[arg(long, env = "CONVERGE_PROXY", value_name = "URL", global = true, hide_env_values = true)]
    proxy: Option<String>,
    /// What the relay wants to see; better in CONVERGE_TOKEN or a file, as others can see command lines
    #[arg(long, env = "CONVERGE_TOKEN", value_name = "TOKEN", global = true, hide_env_values = true)]
    token: Option<String>,
    /// A file with it
    #[arg(long, env = "CONVERGE_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// The private directory of one `converge ssh`
    #[arg(long, value_name = "DIR", global = true, hide = true)]
    handoff: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Auto,
    Quic,
    Websocket,
}

#[derive(Subcommand)]
enum Command {
    /// A shell or a command in the job: runs the system's ssh. Options of converge stand before ADDRESS, ssh's behind it
    Ssh(OpenSsh),
    /// Files to and from the job: runs the system's sftp; `:PATH` starts in that directory
    Sftp(OpenSsh),
    /// Files to and from the job: runs the system's scp; `:PATH` is a path in the job
    Scp(OpenSsh),
    /// The session on standard input and output, for ssh's ProxyCommand
    Proxy {
        /// The agent's address
        address: Address,
    },
    /// A local TCP port; each connection to it is a session
    #[command(alias = "tcptows")]
    Listen {
        /// The agent's address
        address: Address,
        /// The local port
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10000")]
        listen: SocketAddr,
    },
    /// The agent's host key as known_hosts lines, for ssh's KnownHostsCommand
    HostKey {
        /// The agent's address
        address: String,
    },
    /// What gets through from here to the relay, and what to do about the rest
    ///
    /// Checks names, proxy, QUIC, packet sizes, TCP, TLS, WebSocket, the clock and versions, in at most 15 seconds. Exits
    /// with 0 when a carrier that the URL allows gets through, else with 4.
    Doctor {
        /// The relay's URL, several of them with commas, or an agent's address; without it --relay, CONVERGE_RELAY or the
        /// configuration file
        #[arg(value_name = "URL")]
        target: Option<String>,
        /// Print one JSON object: relay, software, protocol, carrier (quic, websocket or null), verdict, and checks with
        /// check, result (pass, warn, fail or skip), time_ms, seen and fix
        #[arg(long)]
        json: bool,
    },
    /// Agents and sessions of the relay, for its operator
    List {
        /// Print one JSON object in one line: event, agents, sessions
        #[arg(long)]
        json: bool,
        /// Print it again whenever it changes, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// End agents, after they have told their users
    Stop {
        /// The agents
        #[arg(required = true, value_name = "ADDRESS")]
        agents: Vec<Address>,
        /// What users are told
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Keep agents for at least so long; their hard cap holds
    Extend {
        /// From now on, such as 1h
        #[arg(value_name = "TIME", value_parser = humantime::parse_duration)]
        time: Duration,
        /// The agents
        #[arg(required = true, value_name = "ADDRESS")]
        agents: Vec<Address>,
    },
    /// Show a line to everybody who is logged in to these agents
    Message {
        /// The line
        text: String,
        /// The agents
        #[arg(required = true, value_name = "ADDRESS")]
        agents: Vec<Address>,
    },
    /// Keep an ID for a job that has not started; prints it with the token that the job needs
    Reserve {
        /// The ID; without it the relay makes one up
        id: Option<Id>,
        /// How long, at most a day
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
        time: Duration,
        /// Print one JSON object: id, token, expires
        #[arg(long)]
        json: bool,
    },
    /// The block for ~/.ssh/config that makes `ssh ID.converge` just work
    Config,
}

#[derive(Args)]
struct OpenSsh {
    /// The agent's address
    address: Address,
    /// Arguments for the program, as one would give them without converge
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// `wsproxy`: standard input and output as a session.
#[derive(Parser)]
#[command(name = "wsproxy", version, max_term_width = 100)]
pub struct WsProxy {
    /// Plain bytes in WebSocket messages, without frames
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    token: TokenVariable,
    /// ws://host/client/ID or wss://host/client/ID
    url: Address,
}

/// A token from the environment only.
#[derive(Args)]
struct TokenVariable {
    /// What the relay wants to see
    #[arg(long, env = "CONVERGE_TOKEN", value_name = "TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
}

impl TokenVariable {
    fn options(&self) -> Result<TargetOptions, ClientError> {
        let token = token::given(self.token.as_deref(), None)?;
        Ok(TargetOptions { token, ..TargetOptions::default() })
    }
}

/// `tcptows`: a local TCP port; each connection to it is a session.
#[derive(Parser)]
#[command(name = "tcptows", version, max_term_width = 100)]
pub struct TcpToWs {
    /// Plain bytes in WebSocket messages, without frames
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    token: TokenVariable,
    /// The local port, on loopback
    port: u16,
    /// ws://host/client/ID or wss://host/client/ID
    url: Address,
}

fn long_version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (protocol {})", ProtocolVersion::list()).leak()
}

impl Common {
    fn target(&self, address: Address) -> Result<Target, ClientError> {
        let options = TargetOptions {
            relays: self.relay.clone(),
            carriers: self.carriers(),
            insecure: self.insecure,
            proxy: self.proxy()?,
            token: token::given(self.token.as_deref(), self.token_file.as_deref())?,
            wait: self.wait,
            quiet: self.quiet,
        };
        Target::new(address, options)
    }

    fn carriers(&self) -> Option<CarrierChoice> {
        self.transport.map(|transport| match transport {
            Transport::Auto => CarrierChoice::Auto,
            Transport::Quic => CarrierChoice::Quic,
            Transport::Websocket => CarrierChoice::WebSocket,
        })
    }

    /// Read here and not by clap, whose error would show what was typed, and that may have a password in it.
    fn proxy(&self) -> Result<Option<ProxyChoice>, ClientError> {
        let proxy = self.proxy.as_deref().map(str::parse::<ProxyChoice>).transpose();
        proxy.map_err(|error| ClientError::Usage(format!("cannot use --proxy: {error}")))
    }

    fn doctor(&self, typed: Option<&str>, format: doctor::Format) -> Result<u8, ClientError> {
        let relays = doctor::relays(typed, self.relay.as_ref())?;
        let relays = match self.carriers() {
            Some(carriers) => relays.with_carriers(carriers),
            None => relays,
        };
        let proxy = self.proxy()?.unwrap_or_else(ProxyChoice::from_environment);
        let options = DialOptions { insecure: self.insecure, proxy, ..DialOptions::default() };
        block_on(doctor::run(&relays, &options, format)).map(|status| status as u8)
    }
}

impl Common {
    /// The relay that these agents are on, or that is known otherwise; and their IDs.
    fn operator(&self, agents: &[Address]) -> Result<(Operator, Vec<Id>), ClientError> {
        let mut named = agents.iter().filter_map(|address| address.relay.as_ref());
        let first = named.next();
        if named.any(|relay| Some(relay.authority()) != first.map(RelayUrl::authority)) {
            return Err(ClientError::Usage(
                "the addresses are of more than one relay; ask one at a time".to_owned(),
            ));
        }
        let relays = match first.cloned().map(RelayUrls::from).or_else(|| self.relay.clone()) {
            Some(relays) => relays,
            None => ConfigFile::load()?.relays.ok_or_else(|| {
                let what = "no relay is known: give --relay, CONVERGE_RELAY or a configuration file";
                ClientError::Usage(what.to_owned())
            })?,
        };
        let proxy = self.proxy()?.unwrap_or_else(ProxyChoice::from_environment);
        let options = DialOptions { insecure: self.insecure, proxy, ..DialOptions::default() };
        let token = match token::given(self.token.as_deref(), self.token_file.as_deref())? {
            Some(token) => Some(token),
            None => ConfigFile::load()?.token_for(&relays)?,
        };
        let ids = agents.iter().map(|address| address.id.clone()).collect();
        Ok((Operator { relays, options, token }, ids))
    }

    fn ask(&self, agents: &[Address], question: &Question) -> Result<u8, ClientError> {
        let (operator, ids) = self.operator(agents)?;
        block_on(ask::run(&operator, &ids, question)).map(|()| 0)
    }
}

fn format_of(json: bool) -> list::Format {
    if json { list::Format::Json } else { list::Format::Table }
}

impl CommandLine {
    /// Does what was typed. Returns what to exit with.
    ///
    /// # Errors
    /// [`ClientError`], to be printed.
    pub fn run(self) -> Result<u8, ClientError> {
        let Self { common, command } = self;
        let handoff = common.handoff.clone().map(Handoff::new);
        match command {
            Command::Ssh(ssh) => openssh::run(Program::Ssh, &common.target(ssh.address)?, &ssh.arguments),
            Command::Sftp(sftp) => {
                openssh::run(Program::Sftp, &common.target(sftp.address)?, &sftp.arguments)
            }
            Command::Scp(scp) => openssh::run(Program::Scp, &common.target(scp.address)?, &scp.arguments),
            Command::Proxy { address } => {
                let target = common.target(address)?;
                block_on(proxy::run(&target, handoff.as_ref())).map(|()| 0)
            }
            Command::Listen { address, listen } => {
                let target = common.target(address)?;
                block_on(listen_until_signal(target, listen, listen::Framing::Converge)).map(|()| 0)
            }
            Command::HostKey { address } => {
                let parsed = asked_address(&address)?;
                let target = common.target(parsed)?;
                block_on(host_key::run(&target, &address, handoff.as_ref())).map(|()| 0)
            }
            Command::Doctor { target, json } => {
                let format = if json { doctor::Format::Json } else { doctor::Format::Table };
                common.doctor(target.as_deref(), format)
            }
            Command::List { json, watch } => {
                let (operator, _) = common.operator(&[])?;
                let format = format_of(json);
                if watch {
                    block_on(list::watch(&operator, format))
                } else {
                    block_on(list::run(&operator, format))
                }
                .map(|()| 0)
            }
            Command::Stop { agents, reason } => common.ask(&agents, &Question::Stop { reason }),
            Command::Extend { time, agents } => common.ask(&agents, &Question::Extend(time)),
            Command::Message { text, agents } => common.ask(&agents, &Question::Message(text)),
            Command::Reserve { id, time, json } => {
                let (operator, _) = common.operator(&[])?;
                block_on(reserve::run(&operator, id.as_ref(), time, format_of(json))).map(|()| 0)
            }
            Command::Config => {
                let own = std::env::current_exe()
                    .map_err(ClientError::local("cannot find this program's own path"))?;
                if common.relay.is_none() && ConfigFile::load()?.relays.is_none() {
                    say(
                        "the block names no relay, nor does the configuration file; give --relay to have it in the block",
                    );
                }
                let block = ssh_config::block(&own, common.relay.as_ref());
                let written = std::io::stdout().write_all(block.as_bytes());
                written.map(|()| 0).map_err(ClientError::local("cannot write"))
            }
        }
    }
}

impl WsProxy {
    /// Does what was typed.
    ///
    /// # Errors
    /// [`ClientError`], to be printed.
    pub fn run(self) -> Result<u8, ClientError> {
        let target = Target::new(self.url, self.token.options()?)?;
        let done =
            if self.raw { block_on(proxy::run_raw(&target)) } else { block_on(proxy::run(&target, None)) };
        done.map(|()| 0)
    }
}

impl TcpToWs {
    /// Does what was typed.
    ///
    /// # Errors
    /// [`ClientError`], to be printed.
    pub fn run(self) -> Result<u8, ClientError> {
        let target = Target::new(self.url, self.token.options()?)?;
        let framing = if self.raw { listen::Framing::Raw } else { listen::Framing::Converge };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        block_on(listen_until_signal(target, listen, framing)).map(|()| 0)
    }
}

/// What ssh asks `KnownHostsCommand` for: a name, or `[name]:port`.
fn asked_address(asked: &str) -> Result<Address, ClientError> {
    let name = asked.strip_prefix('[').and_then(|rest| rest.split_once("]:")).map_or(asked, |(name, _)| name);
    name.parse().map_err(|error| ClientError::Usage(format!("{name:?} is not an agent's address: {error}")))
}

async fn listen_until_signal(
    target: Target,
    address: SocketAddr,
    framing: listen::Framing,
) -> Result<(), ClientError> {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    let signal = platform::quit_signal().map_err(ClientError::local("cannot listen for signals"))?;
    let signals = tokio::spawn(async move {
        signal.await;
        on_signal.cancel();
    });
    let result = listen::run(target, address, framing, stop).await;
    signals.abort();
    result
}

/// One thread does: the work is copying between two descriptors.
fn block_on<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ClientError::local("cannot start"))?;
    let result = runtime.block_on(work);
    // A blocked read of a terminal must not keep the program.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_lines_are_consistent() {
        CommandLine::command().debug_assert();
        WsProxy::command().debug_assert();
        TcpToWs::command().debug_assert();
    }

    #[test]
    fn arguments_of_ssh_are_left_alone() {
        let line =
            CommandLine::try_parse_from(["converge", "ssh", "--quiet", "build", "-v", "--", "ls", "--quiet"]);
        let CommandLine { common, command: Command::Ssh(ssh) } = line.unwrap_or_else(|e| panic!("{e}"))
        else {
            panic!("not ssh");
        };
        assert!(common.quiet);
        assert_eq!(ssh.arguments, ["-v", "--", "ls", "--quiet"]);
    }

    #[test]
    fn wrong_proxy_is_refused_without_showing_its_password() {
        let line =
            ["converge", "--proxy", "gopher://u:hunter2@proxy", "--relay", "https://relay", "proxy", "build"];
        let line = CommandLine::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        let error = line.common.target("build".parse().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("cannot use --proxy: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn help_fits_a_screen() {
        let help = CommandLine::command().render_help().to_string();
        assert!(help.lines().count() <= 40, "{help}");
    }

    #[test]
    fn names_with_a_port_are_names() {
        assert_eq!(asked_address("[a.converge]:2222").unwrap().id.as_str(), "a");
        assert_eq!(asked_address("a.converge").unwrap().id.as_str(), "a");
        assert!(asked_address("[a").is_err());
    }
}
