//! `converge stop`, `extend` and `message`: what an operator asks of agents.

use crate::{
    error::{ClientError, ExitStatus},
    operator::{Operator, clean},
    target::say,
};
use converge_proto::Id;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io::Write, time::Duration};

/// The relay takes so many IDs at a time.
const BULK: usize = 100;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// End.
    Stop {
        /// What users are told.
        reason: Option<String>,
    },
    /// Stay at least so long.
    Extend(Duration),
    /// Show this to users.
    Message(String),
}

impl Question {
    fn path(&self) -> &'static str {
        match self {
            Self::Stop { .. } => "bulk/stop",
            Self::Extend(_) => "bulk/extend",
            Self::Message(_) => "bulk/message",
        }
    }

    fn body(&self, ids: &[Id]) -> Value {
        let ids: Vec<_> = ids.iter().map(Id::as_str).collect();
        match self {
            Self::Stop { reason: None } => json!({ "ids": ids }),
            Self::Stop { reason: Some(reason) } => json!({ "ids": ids, "reason": reason }),
            Self::Extend(time) => json!({ "ids": ids, "seconds": time.as_secs().max(1) }),
            Self::Message(text) => json!({ "ids": ids, "text": text }),
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Stop { .. } => "is ending",
            Self::Extend(_) => "stays",
            Self::Message(_) => "has shown it",
        }
    }
}

#[derive(Deserialize)]
struct Outcomes {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    id: String,
    status: u16,
    problem: Option<crate::operator::Problem>,
}

/// Asks all of these agents. What was done is said on standard output, what was not on standard error.
///
/// # Errors
/// [`ClientError`]; [`ClientError::Several`] when several were asked and not all have done it.
pub async fn run(operator: &Operator, ids: &[Id], question: &Question) -> Result<(), ClientError> {
    let mut connection = operator.connect().await?;
    let mut outcomes = Vec::new();
    for ids in ids.chunks(BULK) {
        let answer = connection.post(question.path(), &question.body(ids)).await?;
        let answer: Outcomes = serde_json::from_value(answer)
            .map_err(|error| ClientError::ApiBroken(format!("its answer makes no sense: {error}")))?;
        outcomes.extend(answer.results);
    }
    let (mut failed, all) = (Vec::new(), outcomes.len());
    for Outcome { id, status, problem } in outcomes {
        match problem {
            None => {
                let written = writeln!(std::io::stdout(), "{} {}", clean(&id), question.done());
                written.map_err(ClientError::local("cannot write"))?;
            }
            Some(problem) => {
                let (detail, advice) = (clean(&problem.detail), clean(&problem.advice));
                failed.push(ClientError::Api { status, detail, advice });
            }
        }
    }
    match (failed.len(), all) {
        (0, _) => Ok(()),
        (1, 1) => Err(failed.remove(0)),
        (count, _) => {
            for error in &failed {
                say(&error.to_string());
            }
            let is_missing = |error: &ClientError| error.exit_status() == ExitStatus::NoSuchId;
            let status =
                if failed.iter().all(is_missing) { ExitStatus::NoSuchId } else { ExitStatus::Refused };
            Err(ClientError::Several { failed: count, all, status })
        }
    }
}
