//! What a person reads when a shell opens: where they are, why, until when, and what they can do about it.

use crate::{
    ci::CiJob,
    life::{Present, Short, Snapshot},
    step::StepEnd,
};
use converge_proto::{expiry::Clock, rendezvous::messages::Name};
use std::fmt::Write;
use tokio::time::Instant;

/// The parts of the login text that stay the same.
#[derive(Clone, Debug, Default)]
pub struct LoginText {
    /// What this job is, such as `build (GitHub Actions) on runner-7`.
    pub job: String,
    /// Where to read about it.
    pub job_url: Option<String>,
    /// The command that was run and how it ended, such as "`make test` failed with status 2".
    pub step: Option<String>,
}

impl LoginText {
    /// For a job, after a step if there was one.
    pub fn new(job: &CiJob, step: Option<&StepEnd>) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let title = job.title().map_or_else(|| "a job".to_owned(), |title| title.to_string());
        let system = job.system.name().map(|system| format!(" ({system})")).unwrap_or_default();
        let step = step.map(describe);
        Self {
            job: format!("{title}{system} on {}", Name::new(host)),
            job_url: job.url.as_ref().map(ToString::to_string),
            step,
        }
    }

    /// The lines for this session.
    pub(crate) fn for_session(&self, session: &str, now: &Snapshot) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, session, now);
        text
    }

    fn write(&self, text: &mut String, session: &str, now: &Snapshot) -> std::fmt::Result {
        write!(text, "This is {}", self.job)?;
        match &self.job_url {
            Some(url) => writeln!(text, ": {url}")?,
            None => writeln!(text, ".")?,
        }
        if let Some(step) = &self.step {
            writeln!(text, "{step}. To run it again: rerun")?;
        }
        let others: Vec<_> =
            now.users.iter().filter(|present| present.session != session).map(name).collect();
        if !others.is_empty() {
            writeln!(text, "Also here: {}.", others.join(", "))?;
        }
        let end = if now.is_held {
            "It is held: it stays open when the last user leaves"
        } else {
            "It ends when the last user leaves (to prevent that: converge-agent hold)"
        };
        write!(text, "{end}")?;
        if let Some(idle) = now.limits.idle {
            write!(text, ", or when nobody does anything for {}", Short(idle))?;
        }
        writeln!(text, ".")?;
        if let Some((clock, at)) = now.deadline {
            let left = Short(at.saturating_duration_since(Instant::now()));
            if clock == Clock::Lifetime {
                writeln!(text, "It ends in {left} whatever anybody does.")?;
            }
        }
        let step = if self.step.is_some() {
            "end as if the step had succeeded: converge-agent resume; "
        } else {
            ""
        };
        writeln!(text, "More time: converge-agent extend 1h; {step}end with status N: converge-agent fail N.")
    }
}

/// A step and how it ended, in one line.
pub(crate) fn describe(end: &StepEnd) -> String {
    let how = match (end.is_success(), end.signal) {
        (true, _) => "succeeded".to_owned(),
        (false, Some(signal)) => format!("was ended by signal {signal}"),
        (false, None) => format!("failed with status {}", end.exit_code),
    };
    let place = Name::new(end.command.working_dir().to_string_lossy());
    format!("{} {how} after {}, in {place}", end.command, Short(end.duration))
}

fn name(present: &Present) -> String {
    present.user.to_string()
}
