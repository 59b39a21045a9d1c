//! Emits events that a test asks for, one on each line of stdin, to the event log and the hooks of the command line.

use clap::Parser;
use converge_agent::{
    command_line::JobArguments,
    events::dispatch::dispatch,
    events::{Event, Events},
    users::user::User,
};
use std::io::BufRead;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    job: JobArguments,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let CommandLine { job } = CommandLine::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let (events, receiver) = Events::channel();
    let dispatching =
        tokio::spawn(dispatch(receiver, job.open_event_log().await?, job.hooks(std::env::current_dir()?)));
    tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            events.emit(event(&line?)?);
        }
        anyhow::Ok(())
    })
    .await??;
    dispatching.await?;
    eprintln!("all was told");
    Ok(())
}

fn event(kind: &str) -> anyhow::Result<Event> {
    let session = || "7".to_owned();
    let user = || User {
        login: "kim".into(),
        key: "SHA256:0123".into(),
        comment: "kim@laptop".into(),
        source: "f:1".into(),
    };
    Ok(match kind {
        "started" => Event::SessionStarted { session: session() },
        "login" => Event::Login { session: session(), user: user() },
        "logout" => Event::SessionFinished {
            session: session(),
            user: Some(user()),
            seconds: 1.5,
            reason: "the client left".into(),
        },
        "warning" => Event::Warning { reason: "idle".into(), remaining_seconds: 60 },
        "exit" => Event::AgentFinished { reason: "the last user left".into(), status: 0 },
        other => anyhow::bail!("no such event: {other}"),
    })
}
