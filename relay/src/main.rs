//! The relay's program.

use converge_relay::{command_line::CommandLine, program};
use std::process::ExitCode;

fn main() -> ExitCode {
    program::run(&CommandLine::of_this_process())
}
