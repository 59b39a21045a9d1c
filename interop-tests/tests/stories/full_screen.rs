//! A program that has the whole screen for itself is not written into; shown by a real terminal, tmux.

use super::shell::job_with_prompt;
use anyhow::Result;
use converge_interop_tests::{
    Agent, Setup,
    process::{eventually, run},
    programs,
    setup::clean,
};
use std::{fs, path::PathBuf, process::Command};

on_both_carriers! {
    editor_is_intact_after_a_warning,
    top_is_intact_after_a_warning,
}

/// A tmux server of the test's own with one window.
struct Tmux {
    program: PathBuf,
    socket: PathBuf,
}

impl Tmux {
    /// Runs `command` in a window.
    fn start(setup: &Setup, command: &Command) -> Result<Self> {
        let tmux = Self { program: programs::installed("tmux")?, socket: setup.path().join("tmux") };
        let mut start = tmux.command();
        start.args(["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env"]);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                let mut assignment = name.to_owned();
                assignment.push("=");
                assignment.push(value);
                start.arg(assignment);
            }
        }
        run(start.arg(command.get_program()).args(command.get_args()), b"")?.success()?;
        Ok(tmux)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        clean(command.arg("-S").arg(&self.socket));
        command
    }

    fn type_keys(&self, keys: &[&str]) -> Result<()> {
        run(self.command().arg("send-keys").args(keys), b"")?.success()?;
        Ok(())
    }

    /// Everything that is on the screen.
    fn screen(&self) -> Result<String> {
        Ok(run(self.command().args(["capture-pane", "-p"]), b"")?.success()?.text())
    }

    fn title(&self) -> Result<String> {
        Ok(run(self.command().args(["display-message", "-p", "#{pane_title}"]), b"")?.success()?.text())
    }

    /// Waits until this is on the screen; returns all of it.
    fn expect(&self, text: &str) -> Result<String> {
        let mut last = String::new();
        let seen = eventually(text, || {
            last = self.screen().ok()?;
            last.contains(text).then(|| last.clone())
        });
        seen.map_err(|error| error.context(format!("on the screen:\n{last}")))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It ends by itself when its window has.
        let _ = self.command().arg("kill-server").output();
    }
}

/// Opens `program` in a shell, looks at it before and after a warning, and ends it with `keys`.
fn stays_intact(setup: &Setup, program: &str, on_screen: &str, keys: &[&str]) -> Result<()> {
    let (job, mut command) = job_with_prompt(setup)?;
    fs::write(job.join("text"), "in the editor\n")?;
    command.env_remove("CONVERGE_HOLD").args(["--idle-timeout", "65s", "--warn", "60s"]);
    let agent = Agent::start_as("clocked", &mut command, setup.path())?;
    let tmux = Tmux::start(setup, &setup.openssh_to("ssh", &agent.address)?)?;
    tmux.expect("job>")?;
    tmux.type_keys(&[program, "Enter"])?;
    let before = tmux.expect(on_screen)?;
    // The warning comes five seconds after the last key; the window's title tells when.
    eventually("the title", || tmux.title().ok()?.contains("converge: this job ends in").then_some(()))?;
    assert_eq!(tmux.screen()?, before);
    tmux.type_keys(keys)?;
    // Now there is a prompt, it is said in words.
    let after = tmux.expect("converge: this job ends in")?;
    assert!(after.contains("press a key"), "{after}");
    eventually("the old title", || (!tmux.title().ok()?.contains("converge:")).then_some(()))?;
    Ok(())
}

fn editor_is_intact_after_a_warning(setup: &mut Setup) -> Result<()> {
    stays_intact(setup, "vim.tiny -u NONE text", "in the editor", &[":q!", "Enter"])
}

fn top_is_intact_after_a_warning(setup: &mut Setup) -> Result<()> {
    // One that shows the same all the time, but for its own process: it has no second round.
    stays_intact(setup, "top -d 1000 -p 1", "%CPU", &["q"])
}
