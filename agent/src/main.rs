//! The agent's program: read the command line, and do what it says.

use converge_agent::{
    command_line::{Command, CommandLine},
    program,
};
use std::{io::IsTerminal, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// What is logged unless `CONVERGE_LOG` says otherwise. The certificate verifier's own lines say less than our errors.
const LOG: &str = "info,russh=warn,rustls_platform_verifier=off";

fn main() -> ExitCode {
    match run(CommandLine::of_this_process()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("converge-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command_line: CommandLine) -> anyhow::Result<u8> {
    match command_line.command {
        Some(Command::Inside(command)) => command.run(),
        Some(Command::SftpServer(arguments)) => arguments.run(),
        Some(Command::Run(arguments)) => on_runtime(program::run(&arguments)),
        None => on_runtime(program::serve(&command_line.agent)),
    }
}

fn on_runtime(agent: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    converge_certs::install_provider();
    let filter = EnvFilter::try_from_env("CONVERGE_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(agent)
}
