//! The client's program: `converge`, also under the names `wsproxy` and `tcptows`.

use clap::Parser;
use converge_client::{
    ClientError,
    command_line::{CommandLine, TcpToWs, WsProxy},
    target::say,
};
use std::{path::Path, process::ExitCode};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    converge_certs::install_provider();
    let filter = EnvFilter::try_from_env("CONVERGE_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(error.exit_status() as u8)
        }
    }
}

/// The name the program was called by decides which command line it reads.
fn run() -> Result<u8, ClientError> {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_stem().and_then(|stem| stem.to_str()) {
        Some("wsproxy") => WsProxy::parse().run(),
        Some("tcptows") => TcpToWs::parse().run(),
        _ => CommandLine::parse().run(),
    }
}
