//! Waiting until a container runs.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::ask::ask;
use super::{Place, Target, Tool};

/// How often a container that does not run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a tool may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Why nothing can be started in a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} does not run{}: {reason}", after(*.waited))]
pub(crate) struct NotUp {
    target: Target,
    waited: Duration,
    reason: String,
}

fn after(time: Duration) -> String {
    if time.is_zero() { String::new() } else { format!(" after {} s", time.as_secs()) }
}

impl Place {
    /// Whether it runs now; the error says why not.
    pub(crate) async fn check(&self) -> Result<(), NotUp> {
        self.look().await.map_err(|reason| self.not_up(Duration::ZERO, reason))
    }

    /// How long it would be waited for.
    pub(crate) fn wait_time(&self) -> Duration {
        self.0.config.wait
    }

    /// Waits until it runs. Cancel-safe.
    pub(crate) async fn until_up(&self) -> Result<(), NotUp> {
        let wait = self.wait_time();
        let deadline = Instant::now() + wait;
        let mut last = "no answer".to_owned();
        loop {
            match timeout_at(deadline, self.look()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => last = reason,
                Err(_) => return Err(self.not_up(wait, last)),
            }
            if timeout_at(deadline, sleep(LOOK_INTERVAL)).await.is_err() {
                return Err(self.not_up(wait, last));
            }
        }
    }

    fn not_up(&self, waited: Duration, reason: String) -> NotUp {
        NotUp { target: self.0.config.target.clone(), waited, reason }
    }

    /// Asks the tools; remembers the one that knows it. The error is what they said.
    async fn look(&self) -> Result<(), String> {
        let known = self.0.found.lock().ok().and_then(|found| found.clone());
        let tools = known.map_or_else(|| self.0.config.tools.clone(), |tool| vec![tool]);
        let mut reasons = Vec::new();
        for tool in &tools {
            match self.look_with(tool).await {
                Ok(true) => {
                    self.set_tool(tool);
                    return Ok(());
                }
                Ok(false) => return Err(format!("{tool} says that it is not running")),
                Err(reason) => reasons.push(format!("{tool}: {reason}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// Whether it runs; an error if this tool does not know it.
    async fn look_with(&self, tool: &Tool) -> Result<bool, String> {
        let command = tool.inspect(&self.0.config.target);
        let answer = ask(command, None, ANSWER_TIME).await.map_err(|error| error.to_string())?;
        debug!(?answer, %tool, "asked whether a container runs");
        if answer.status.is_success() { Ok(Tool::says_running(&answer.stdout)) } else { Err(answer.reason()) }
    }
}
