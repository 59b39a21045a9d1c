//! The page of sessions as it changes, without anybody reloading it.

use super::{browser::Browser, pages, tell};
use anyhow::ensure;
use converge_interop_tests::{Agent, Process};

#[test]
fn agents_and_sessions_come_and_go_without_a_reload() {
    tell(|setup| {
        let browser = Browser::start(setup.path())?;
        browser.open(&format!("{}/sessions", pages(setup)))?;
        browser.wait_for_text("#live", "Live")?;
        browser.wait_for_text("#summary", "1 job, 0 sessions")?;
        // What a reload would lose.
        browser.run("window.still = 'here'", vec![])?;
        let row = format!("#a-{}", setup.agent.id);

        let mut ssh = setup.openssh("ssh")?;
        let mut session = Process::start_with_input("ssh", ssh.arg("cat"), setup.path())?;
        session.write_line("are you there?")?;
        session.wait_for("an answer", |line| (line == "are you there?").then_some(()))?;
        browser.wait_for_text("#summary", "1 job, 1 session")?;
        browser.wait_for_text(&format!("{row} [data-label=Sessions]"), "1 session")?;
        browser.wait_for_text(&format!("{row} [data-label=Bytes]"), "kB in")?;
        browser.wait_for_text(&format!("{row} [data-label=Sessions]"), "1 user")?;
        browser.wait_for_text(&format!("{row} [data-label=Ends]"), "held")?;
        browser.take_picture("sessions-in-use")?;
        session.end_input();
        session.wait()?;
        browser.wait_for_text("#summary", "1 job, 0 sessions")?;
        browser.wait_for_text(&format!("{row} [data-label=Sessions]"), "none")?;

        let job = setup.new_job("second")?;
        let mut second = setup.agent_command(&job)?;
        let mut second = Agent::start_as("second-agent", second.args(["--id", "second"]), setup.path())?;
        browser.wait_for_text("#a-second", "second")?;
        browser.type_into("#q", "seco")?;
        browser.wait_for_text("#summary", "1 of 2 jobs")?;
        ensure!(!browser.has(&row), "only what is found is shown");
        ensure!(browser.url()?.ends_with("/sessions?q=seco"), "{}", browser.url()?);
        second.process.signal(rustix::process::Signal::TERM)?;
        second.process.wait()?;
        browser.wait("an empty list", |browser| !browser.has("#a-second"))?;
        browser.wait_for_text("#none", "No job to show")?;
        let still = browser.run("return window.still", vec![])?;
        ensure!(still == "here", "the page was loaded again");
        browser.has_clean_console(&[])
    });
}
