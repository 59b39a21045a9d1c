//! What is said to a running agent from inside a session.

use super::clocks::duration;
use crate::{
    control::{self, Answer, Request, Status},
    job::step::StepCommand,
    life::Short,
    platform::process::become_command,
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What is said to a running agent.
#[derive(Debug, Subcommand)]
pub enum InsideCommand {
    /// Print who is here and what ends the job
    Status(Inside),
    /// Keep the job for at least so long, whether or not anybody does anything
    Extend {
        /// How long from now
        #[arg(value_name = "TIME", default_value = "1h", value_parser = duration)]
        time: Duration,
        /// Of which agent
        #[command(flatten)]
        inside: Inside,
    },
    /// Keep the job when the last user leaves
    Hold {
        /// And awake for so long
        #[arg(value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
        /// Of which agent
        #[command(flatten)]
        inside: Inside,
    },
    /// Take a hold back
    Release(Inside),
    /// End the session and let the job go on, with status 0
    Resume(Inside),
    /// End the session and let the job fail
    Fail {
        /// With this status
        #[arg(value_name = "N", default_value = "1")]
        status: u8,
        /// Of which agent
        #[command(flatten)]
        inside: Inside,
    },
    /// Run the step's command again, here
    Rerun(Inside),
}

/// Which agent, and how it answers.
#[derive(Args, Debug)]
pub struct Inside {
    /// The agent directory; in a session it is known
    #[arg(long, env = "agentdir", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

impl InsideCommand {
    /// Asks, and prints the answer. Returns the exit status.
    ///
    /// # Errors
    /// When there is no agent, or it says no.
    pub fn run(self) -> anyhow::Result<u8> {
        let (request, inside) = match self {
            Self::Status(inside) => (Request::Status, inside),
            Self::Extend { time, inside } => (Request::Extend { seconds: time.as_secs() }, inside),
            Self::Hold { time, inside } => {
                (Request::Hold { seconds: time.map(|time| time.as_secs()) }, inside)
            }
            Self::Release(inside) => (Request::Release, inside),
            Self::Resume(inside) => (Request::Resume, inside),
            Self::Fail { status, inside } => (Request::Fail { status }, inside),
            Self::Rerun(inside) => (Request::Step, inside),
        };
        let Some(directory) = inside.dir else {
            bail!("this works inside a session of an agent; elsewhere, say which one with --dir");
        };
        let session = std::env::var("CONVERGE_SESSION").ok();
        match control::request(&directory, session, request)? {
            Answer::Status(status) if inside.json => println!("{}", serde_json::to_string(&status)?),
            Answer::Status(status) => print!("{}", describe(&status)),
            Answer::Ending if inside.json => println!("{{\"ending\":true}}"),
            Answer::Ending => println!("The agent ends."),
            Answer::Step(step) => return rerun(&step),
            Answer::Error { message } => bail!(message),
        }
        Ok(0)
    }
}

/// Becomes the step's command.
fn rerun(step: &StepCommand) -> anyhow::Result<u8> {
    let Some((program, arguments)) = step.argv().split_first() else { bail!("the step has no command") };
    become_command(Command::new(program).args(arguments).current_dir(step.working_dir()))
        .with_context(|| format!("cannot run {} in {}", program.display(), step.working_dir().display()))
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<8} {value}\n"));
    line("Job", &status.job);
    if let Some(url) = &status.job_url {
        line("", url);
    }
    line("Address", status.address.as_deref().unwrap_or("none yet: no relay is reached"));
    if let Some(step) = &status.step {
        line("Step", step);
    }
    for (index, user) in status.users.iter().enumerate() {
        let since = UNIX_EPOCH + Duration::from_secs(user.since);
        let since = Short(SystemTime::now().duration_since(since).unwrap_or_default());
        let you = if user.you { " (you)" } else { "" };
        line(if index == 0 { "Users" } else { "" }, &format!("{}{you}, for {since}", user.name));
    }
    if status.users.is_empty() {
        line("Users", "nobody");
    }
    let leaving = if status.held { "it is held" } else { "when the last user leaves" };
    let ends = status.ends.as_ref().map(|end| {
        let why = match end.clock.as_str() {
            "first" => "nobody has logged in",
            "idle" => "unless somebody does something",
            _ => "its longest lifetime",
        };
        format!(", or in {} ({why})", Short(Duration::from_secs(end.seconds)))
    });
    line("Ends", &format!("{leaving}{}", ends.unwrap_or_default()));
    text
}
