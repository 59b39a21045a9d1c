//! The agent as a program: everything that one agent consists of, put together, from its start to its exit status.

use crate::{
    Agent, AgentDir,
    command_line::{AgentArguments, RunArguments, whole},
    control::{Control, ControlServer},
    events::dispatch::dispatch,
    events::{Event, Events},
    job::ci::CiJob,
    job::step::StepEnd,
    life::EndReason,
    life::login_text::describe,
    platform::process::keep_children,
    platform::signals::{self, Ignored},
    platform::stop_signals::StopSignals,
    relay::announce::Announcement,
};
use anyhow::Context;
use std::io::Write;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::task::AbortOnDropHandle;

/// What is 128 + the number of a signal, as shells report an end by it.
const STATUS_OF_SIGNALS: i32 = 128;

/// Runs a step, and opens a session when its end asks for one. Returns the exit status.
///
/// # Errors
/// When the step cannot be run at all. An agent that cannot start is told on stderr, and the status is the step's.
pub async fn run(arguments: &RunArguments) -> anyhow::Result<u8> {
    let ignored = signals::reset_signals().context("cannot reset signals")?;
    let end = arguments.step().run().await.context("cannot run the step")?;
    if !arguments.on.opens(&end) {
        return Ok(end.exit_code);
    }
    print(std::io::stderr(), &format!("converge-agent: {}; opening a session\n", describe(&end)));
    match open(&arguments.agent, ignored, Some(&end)).await {
        Ok(status) => Ok(status),
        Err(error) => {
            print(std::io::stderr(), &format!("converge-agent: no session is opened: {error:#}\n"));
            Ok(end.exit_code)
        }
    }
}

/// Opens a session, and returns the exit status when it has ended.
///
/// # Errors
/// When the agent cannot start, or its first connection to the relay fails in a way that trying again would not mend.
pub async fn serve(arguments: &AgentArguments) -> anyhow::Result<u8> {
    let ignored = signals::reset_signals().context("cannot reset signals")?;
    open(arguments, ignored, None).await
}

async fn open(arguments: &AgentArguments, ignored: Ignored, step: Option<&StepEnd>) -> anyhow::Result<u8> {
    let mut stop_signals = StopSignals::new(ignored).context("cannot listen for signals")?;
    keep_children();
    if arguments.relay.insecure {
        tracing::warn!("--insecure: the relay's certificate is not verified");
    }
    let directory = AgentDir::open(arguments.dir.as_deref()).map_err(whole)?;
    directory.link_tools().map_err(whole)?;
    if arguments.clocks.hold {
        directory.hold().map_err(whole)?;
    }
    let (events, dispatching) = dispatch_events(arguments).await?;
    if let Some(end) = step {
        events.emit(end.into());
    }
    let config = arguments.config(&directory, step, events.clone()).await?;
    let (job, login_text) = (config.job.clone(), config.login_text.clone());
    let agent = Agent::new(config)?;
    let life = agent.life();
    let control = ControlServer::bind(directory.path()).context("cannot make the control socket")?;
    let control = control.run(Control {
        life: life.clone(),
        announcements: agent.announcements(),
        login_text,
        step: step.map(|end| end.command.clone()),
    });
    let _controlling = AbortOnDropHandle::new(tokio::spawn(control));
    let printing = tokio::spawn(print_announcements(agent.announcements(), job));
    let diagnosing = tokio::spawn(print_diagnoses(agent.diagnoses()));

    let mut running = tokio::spawn(agent.run());
    let reason = tokio::select! {
        reason = &mut running => reason,
        signal = stop_signals.next() => {
            life.end(EndReason::Signal(signal));
            running.await
        }
    };
    let reason = reason.context("the agent failed")??;
    printing.await.context("the agent failed")?;
    diagnosing.await.context("the agent failed")?;
    let status = exit_status(reason, arguments.clocks.timeout_status, step.map_or(0, |end| end.exit_code));
    events.emit(Event::AgentFinished { reason: reason.to_string(), status });
    dispatching.await.context("the agent failed")?;
    Ok(status)
}

/// Makes events, and takes them to the event log and the hooks.
async fn dispatch_events(arguments: &AgentArguments) -> anyhow::Result<(Events, JoinHandle<()>)> {
    let log = arguments.job.open_event_log().await?;
    let working_dir = std::env::current_dir().context("cannot find out the working directory")?;
    let (events, received) = Events::channel();
    Ok((events, tokio::spawn(dispatch(received, log, arguments.job.hooks(working_dir)))))
}

/// `otherwise`: what it is when nobody says anything.
fn exit_status(reason: EndReason, timeout_status: Option<u8>, otherwise: u8) -> u8 {
    match reason {
        EndReason::Clock(..) | EndReason::Operator => timeout_status.unwrap_or(otherwise),
        EndReason::LastLogout => otherwise,
        EndReason::Resume => 0,
        EndReason::Fail(status) => status,
        EndReason::Signal(number) => u8::try_from(STATUS_OF_SIGNALS + number).unwrap_or(u8::MAX),
    }
}

async fn print_announcements(mut announcements: watch::Receiver<Option<Announcement>>, job: CiJob) {
    while announcements.changed().await.is_ok() {
        if let Some(announcement) = announcements.borrow_and_update().as_ref() {
            // A reader that has gone away does not matter.
            let _ = job.announce(announcement, &mut std::io::stdout());
            print(std::io::stdout(), &announcement.to_string());
        }
    }
}

async fn print_diagnoses(mut diagnoses: watch::Receiver<Vec<converge_transport::probe::Report>>) {
    while diagnoses.changed().await.is_ok() {
        let reports: Vec<_> = diagnoses.borrow_and_update().iter().map(ToString::to_string).collect();
        let who = match reports.len() {
            0 => continue,
            1 => "the relay is not reached yet",
            _ => "no relay is reached yet",
        };
        let heading = format!("{who}, and the agent goes on trying; what gets through from here:");
        print(std::io::stderr(), &format!("converge-agent: {heading}\n\n{}\n", reports.join("\n")));
    }
}

/// All at once; a reader that has gone away does not matter.
fn print(mut out: impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use converge_proto::expiry::Clock;
    use std::time::Duration;

    #[test]
    fn status_is_the_one_that_was_promised() {
        let clock = EndReason::Clock(Clock::Idle, Duration::from_secs(1));
        assert_eq!(exit_status(clock, None, 0), 0);
        assert_eq!(exit_status(clock, None, 3), 3);
        assert_eq!(exit_status(clock, Some(75), 3), 75);
        assert_eq!(exit_status(EndReason::Operator, Some(75), 0), 75);
        assert_eq!(exit_status(EndReason::LastLogout, Some(75), 3), 3);
        assert_eq!(exit_status(EndReason::Resume, Some(75), 3), 0);
        assert_eq!(exit_status(EndReason::Fail(9), Some(75), 3), 9);
        assert_eq!(exit_status(EndReason::Signal(15), Some(75), 3), 143);
        assert_eq!(exit_status(EndReason::Signal(2), None, 0), 130);
    }
}
