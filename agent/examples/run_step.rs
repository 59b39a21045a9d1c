//! Runs a command as a step of a CI job, without any relay: for tests and for trying it out.
//!
//! ```text
//! cargo run -p converge-agent --example run_step -- report.json make -j8
//! ```
//!
//! It ends with the step's status, and writes how the step ended to the file.

use anyhow::Context;
use converge_agent::{
    job::step::{OpenOn, Step},
    platform::signals::reset_signals,
};
use serde_json::json;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    reset_signals()?;
    let mut arguments = std::env::args_os().skip(1);
    let report = arguments.next().context("usage: run_step REPORT-FILE COMMAND...")?;
    let end = Step::new(arguments.collect()).run().await?;
    let json = json!({
        "exit_code": end.exit_code,
        "signal": end.signal,
        "stop_signal": end.stop_signal,
        "opens_on_failure": OpenOn::Failure.opens(&end),
        "command": end.command.to_string(),
        "working_dir": end.command.working_dir(),
        "seconds": end.duration.as_secs_f64(),
    });
    std::fs::write(report, json.to_string())?;
    Ok(ExitCode::from(end.exit_code))
}
