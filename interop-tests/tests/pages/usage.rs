//! The form, and whether the commands that it makes do what it says.

use super::{browser::Browser, pages, tell, whole::shell};
use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    Setup,
    process::{Process, eventually, run},
    programs,
};
use std::{fs, path::PathBuf, process::Command};

/// An ssh-agent with the person's key, as most people have one; ended with the test.
struct Keys {
    _process: Process,
    socket: PathBuf,
}

impl Keys {
    fn start(setup: &Setup) -> Result<Self> {
        let socket = setup.path().join("keys");
        let mut command = Command::new(programs::installed("ssh-agent")?);
        let process = Process::start("ssh-agent", command.arg("-D").arg("-a").arg(&socket), setup.path())?;
        eventually("the ssh-agent", || socket.exists().then_some(()))?;
        let mut add = Command::new(programs::installed("ssh-add")?);
        run(add.arg(setup.key()).env("SSH_AUTH_SOCK", &socket), b"")?.success()?;
        Ok(Self { _process: process, socket })
    }
}

/// Runs lines that were copied from the page, as they are.
fn run_lines(setup: &Setup, keys: &Keys, lines: &str, input: &str) -> Result<String> {
    let mut command = shell(setup)?;
    command.arg("-c").arg(lines).current_dir(setup.path()).env("SSH_AUTH_SOCK", &keys.socket);
    Ok(run(&mut command, input.as_bytes())?.success()?.text())
}

#[test]
fn commands_of_the_form_open_a_job_and_lead_into_it() {
    tell(|setup| {
        let browser = Browser::start(setup.path())?;
        browser.open(&format!("{}/usage", pages(setup)))?;
        let key = fs::read_to_string(setup.key().with_extension("pub"))?;
        browser.type_into("#id", "from-the-form")?;
        browser.type_into("#keys", key.trim())?;
        browser.type_into("#step", "cat no-such-file")?;
        browser.run(
            "const ci = document.getElementById('ci'); ci.value = 'other'; \
                     ci.dispatchEvent(new Event('input', { bubbles: true }));",
            vec![],
        )?;
        browser.wait_for_text("#job-lines", "--id from-the-form -- cat no-such-file")?;
        browser.wait_for_text("#connect", "/client/from-the-form")?;
        let [job, connect, files, config] = ["#job-lines", "#connect", "#files", "#config"]
            .map(|part| browser.text(&format!("{part} code")).unwrap_or_default());
        ensure!(!job.is_empty() && !config.is_empty(), "{}", browser.source()?);

        // The job: a step that fails, so that it opens.
        let directory = setup.path().join("form-job");
        fs::create_dir(&directory)?;
        fs::write(directory.join("report.txt"), "all red\n")?;
        let mut command = shell(setup)?;
        command.arg("-ec").arg(&job).current_dir(&directory).env("CONVERGE_HOLD", "true");
        let mut process = Process::start("form-job", &mut command, setup.path())?;
        process.wait_for("its address", |line| line.contains("converge ssh '").then_some(()))?;

        // The person.
        let keys = Keys::start(setup)?;
        let said = run_lines(setup, &keys, &connect, "cat report.txt\nexit\n")?;
        ensure!(said.contains("all red"), "{connect} said {said}");
        run_lines(setup, &keys, &files, "get report.txt\n")?;
        ensure!(
            fs::read_to_string(setup.path().join("report.txt"))? == "all red\n",
            "{files} fetched something else"
        );
        run_lines(setup, &keys, &config, "")?;
        let ssh = "ssh -F \"$HOME/.ssh/config\" from-the-form.converge cat report.txt";
        let said = run_lines(setup, &keys, ssh, "")?;
        ensure!(said == "all red\n", "{ssh} said {said}");
        let end = "converge-agent fail 7\n";
        // The agent goes while the session is still there; what matters is the status of the step.
        let _ = run_lines(setup, &keys, &connect, end);
        let status = process.wait()?;
        ensure!(status.code() == Some(7), "the step has ended with {status}");
        browser.has_clean_console(&[])
    });
}

#[test]
fn form_is_kept_in_the_browser_until_it_is_to_be_forgotten() {
    tell(|setup| {
        let browser = Browser::start(setup.path())?;
        let url = format!("{}/usage", pages(setup));
        browser.open(&url)?;
        browser.type_into("#id", "kept")?;
        browser.wait_for_text("#connect", "/client/kept")?;
        browser.open(&format!("{}/", pages(setup)))?;
        browser.open(&url)?;
        browser.wait_for_text("#connect", "/client/kept")?;
        browser.click("#forget")?;
        browser.wait("an empty form", |browser| {
            browser.run("return document.getElementById('id').value", vec![]).is_ok_and(|value| value == "")
        })?;
        browser.wait_for_text("#connect", "ADDRESS")?;
        // What somebody has been given as a link goes before what is kept.
        browser.type_into("#id", "kept-again")?;
        browser.wait_for_text("#connect", "/client/kept-again")?;
        browser.open(&format!("{url}?id=linked"))?;
        browser.wait_for_text("#connect", "/client/linked")?;
        browser.has_clean_console(&[])
    });
}

#[test]
fn copy_button_copies_what_stands_there() {
    tell(|setup| {
        let browser = Browser::start(setup.path())?;
        browser.open(&format!("{}/usage?id=to-copy", pages(setup)))?;
        let shown = browser.text("#connect code")?;
        browser.run("window.copied = null; navigator.clipboard.writeText = async (text) => { window.copied = text; };", vec![])?;
        browser.click(".copyable:has(#connect) .copy")?;
        browser.wait_for_text(".copyable:has(#connect) .copy", "Copied")?;
        let copied = browser.run("return window.copied", vec![])?;
        ensure!(copied.as_str().context("a text")? == shown, "{copied} instead of {shown}");
        browser.has_clean_console(&[])
    });
}
