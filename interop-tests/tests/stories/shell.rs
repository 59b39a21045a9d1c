//! A person at a terminal.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Agent, Setup, Terminal,
    process::{Leftover, eventually, is_running, send_signal},
};
use rustix::process::Signal;
use std::{fs, path::Path, process::Command};

on_both_carriers! {
    shell_has_a_prompt_a_window_and_an_interrupt_key,
    escape_character_ends_a_session,
    interrupt_key_works_when_the_step_started_the_agent_in_the_background,
    closed_terminal_ends_what_ran_in_it,
}

/// A prompt to wait for, and no history that bash would write into the job.
pub(super) const PROFILE: &str = "PS1='job> '\nunset HISTFILE\n";

/// A job whose shell reads no settings of this machine's users.
pub(super) fn job_with_prompt(setup: &Setup) -> Result<(std::path::PathBuf, Command)> {
    let job = setup.new_job("home")?;
    for file in [".profile", ".bashrc", ".bash_profile"] {
        fs::write(job.join(file), PROFILE)?;
    }
    let mut command = setup.agent_command(&job)?;
    command.env("HOME", &job).env("SHELL", "/bin/bash").env_remove("PROMPT_COMMAND");
    Ok((job, command))
}

/// At its prompt.
pub(super) fn shell(setup: &Setup, agent: &Agent) -> Result<Terminal> {
    let mut terminal = Terminal::open(setup.openssh_to("ssh", &agent.address)?, 24, 80)?;
    terminal.expect("job> ")?;
    Ok(terminal)
}

/// Starts a long command, interrupts it, and asks how it ended.
fn interrupt(terminal: &mut Terminal) -> Result<()> {
    // The program says itself that it runs: a shell on its way to `exec` may swallow the signal.
    terminal.type_text("echo wait''ing > word; tail -f word\r")?;
    terminal.expect("waiting")?;
    terminal.type_text("\x03")?;
    terminal.expect("job> ")?;
    terminal.type_text("echo \"sta\"tus $?\r")?;
    terminal.expect("status 130")?;
    Ok(())
}

fn shell_has_a_prompt_a_window_and_an_interrupt_key(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let agent = Agent::start_as("home-agent", &mut command, setup.path())?;
    let mut terminal = shell(setup, &agent)?;
    terminal.type_text("stty size; tty | sed 's/[0-9]*$/N/'; echo $TERM\r")?;
    terminal.expect("24 80\r\n/dev/pts/N\r\nxterm\r\n")?;

    terminal.type_text("until test \"$(stty size)\" = '50 132'; do :; done; echo resi''zed\r")?;
    terminal.resize(50, 132)?;
    terminal.expect("resized")?;

    interrupt(&mut terminal)?;
    terminal.type_text("exit 3\r")?;
    let (_, status) = terminal.finish()?;
    assert_eq!(status.code(), Some(3));
    Ok(())
}

fn escape_character_ends_a_session(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let agent = Agent::start_as("home-agent", &mut command, setup.path())?;
    let terminal = shell(setup, &agent)?;
    terminal.type_text("sleep 1000\r~.")?;
    let (text, status) = terminal.finish()?;
    assert_eq!(status.code(), Some(255));
    assert!(text.contains("closed"), "{text:?}");
    Ok(())
}

fn interrupt_key_works_when_the_step_started_the_agent_in_the_background(setup: &mut Setup) -> Result<()> {
    let (job, agent) = job_with_prompt(setup)?;
    // `&` in a script ignores SIGINT and SIGQUIT, nohup ignores SIGHUP.
    let mut step = Agent::by_shell("trap '' HUP; \"$0\" \"$@\" & echo $! > pid", &agent);
    let agent = Agent::start_as("background-agent", &mut step, setup.path())?;
    let background = Leftover(fs::read_to_string(job.join("pid"))?.trim().parse()?);

    let mut terminal = shell(setup, &agent)?;
    interrupt(&mut terminal)?;
    terminal.type_text("exit\r")?;
    terminal.finish()?;
    send_signal(background.0, Signal::TERM)?;
    eventually("the end of the agent", || (!is_running(background.0)).then_some(()))
}

fn closed_terminal_ends_what_ran_in_it(setup: &mut Setup) -> Result<()> {
    let (job, mut command) = job_with_prompt(setup)?;
    let agent = Agent::start_as("home-agent", &mut command, setup.path())?;
    let terminal = shell(setup, &agent)?;
    terminal
        .type_text("echo $$ > shell; sh -c 'echo $$ > child.new; mv child.new child; exec sleep 1000'\r")?;
    let pid = |file: &Path| -> Option<u32> { fs::read_to_string(file).ok()?.trim().parse().ok() };
    let child = eventually("the child's ID", || pid(&job.join("child")))?;
    let shell = pid(&job.join("shell")).context("the shell's ID")?;
    assert!(is_running(shell) && is_running(child));
    drop(terminal);
    eventually("the end of shell and child", || (!is_running(shell) && !is_running(child)).then_some(()))
}
