//! What a person reads when a shell opens: where they are, why, until when, and what they can do about it.

use crate::{
    job::ci::CiJob,
    job::step::StepEnd,
    life::{Present, Short, Snapshot},
    place::Place,
    platform::machine::host_name,
};
use converge_proto::rendezvous::messages::Name;
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
    /// The container that shells and commands run in, such as "the container web". The commands for the agent are not
    /// there.
    pub place: Option<String>,
}

impl LoginText {
    /// For a job, after a step if there was one.
    pub fn new(job: &CiJob, step: Option<&StepEnd>) -> Self {
        let host = host_name();
        let title = job.title().map_or_else(|| "a job".to_owned(), |title| title.to_string());
        let system = job.system.name().map(|system| format!(" ({system})")).unwrap_or_default();
        let step = step.map(describe);
        Self {
            job: format!("{title}{system} on {}", Name::new(host)),
            job_url: job.url.as_ref().map(ToString::to_string),
            step,
            place: None,
        }
    }

    /// With the container that shells and commands run in.
    pub(crate) fn inside(self, place: Option<&Place>) -> Self {
        Self { place: place.map(ToString::to_string), ..self }
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
        match (&self.step, &self.place) {
            (Some(step), None) => writeln!(text, "{step}. To run it again: rerun")?,
            (Some(step), Some(_)) => writeln!(text, "{step}.")?,
            (None, _) => {}
        }
        if let Some(place) = &self.place {
            writeln!(text, "Shells, commands and sftp are inside {place}; forwarded ports are the job's.")?;
        }
        let others: Vec<_> =
            now.users.iter().filter(|present| present.session != session).map(name).collect();
        if !others.is_empty() {
            writeln!(text, "Also here: {}.", others.join(", "))?;
        }
        let mut ends = Vec::new();
        if !now.is_held {
            ends.push("when the last user leaves".to_owned());
        }
        if let Some(idle) = now.limits.idle {
            ends.push(format!("when nobody does anything for {}", Short(idle)));
        }
        if let Some(latest) = now.latest {
            let left = Short(latest.saturating_duration_since(Instant::now()));
            ends.push(format!("in {left} at the latest"));
        }
        match ends.as_slice() {
            [] => writeln!(text, "It stays until somebody ends it.")?,
            [only] => writeln!(text, "It ends {only}.")?,
            [others @ .., last] => writeln!(text, "It ends {}, or {last}.", others.join(", "))?,
        }
        if self.place.is_some() {
            return Ok(());
        }
        let keep = if now.is_held { "" } else { "To keep it then: converge-agent hold. " };
        writeln!(
            text,
            "{keep}More time: converge-agent extend 1h. To end it: converge-agent resume (status 0) or fail N."
        )
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

#[cfg(test)]
mod tests {
    use super::*;
    use converge_proto::expiry::ExpiryLimits;
    use std::time::Duration;

    #[test]
    fn commands_that_are_not_in_a_container_are_not_recommended_there() {
        let now = Snapshot::new(ExpiryLimits { first: None, idle: None, lifetime: None, warn: Vec::new() });
        let text =
            LoginText { job: "a job".to_owned(), step: Some("it failed".to_owned()), ..LoginText::default() };
        let here = text.for_session("x", &now);
        assert!(here.contains("rerun") && here.contains("converge-agent extend"), "{here}");
        let inside = LoginText { place: Some("the container web".to_owned()), ..text };
        let inside = inside.for_session("x", &now);
        assert!(inside.contains("Shells, commands and sftp are inside the container web"), "{inside}");
        assert!(inside.contains("it failed.") && !inside.contains("rerun"), "{inside}");
        assert!(!inside.contains("converge-agent"), "{inside}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_what_ends_it() {
        let limits = |idle| ExpiryLimits { first: None, idle, lifetime: None, warn: Vec::new() };
        let text = LoginText {
            job: "a job on vm".into(),
            job_url: None,
            step: Some("false failed".into()),
            place: None,
        };
        let mut now = Snapshot::new(limits(Some(Duration::from_mins(10))));
        now.latest = Some(Instant::now() + Duration::from_hours(5));
        let lines = text.for_session("1", &now);
        let expected = "This is a job on vm.\nfalse failed. To run it again: rerun\n\
            It ends when the last user leaves, when nobody does anything for 10m, or in 5h at the latest.\n\
            To keep it then: converge-agent hold. More time: converge-agent extend 1h. \
            To end it: converge-agent resume (status 0) or fail N.\n";
        assert_eq!(lines, expected);
        now = Snapshot::new(limits(None));
        now.is_held = true;
        let lines = text.for_session("1", &now);
        assert!(lines.contains("It stays until somebody ends it.\nMore time"), "{lines}");
    }
}
