//! Clients that ask for one ID at several relays all the time, and remember who answered.

use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    Agent, Carrier, Lab,
    process::{Output, eventually},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

/// Between two questions at one relay, so that the story has processors left.
const PAUSE: Duration = Duration::from_millis(200);

/// How long an answer may take. A session that has begun before the cut, and is not over, waits for the healing.
const LIMIT_SECONDS: u32 = 20;
const WAITS: &str = "a session that waits";
/// The status of what `timeout` has ended.
const TOO_LATE: i32 = 124;

/// Why nobody is reached: as long as the relay that is cut off is taken to be there, and after that.
const CLEAR: [&str; 2] = ["the agent cannot be reached: ", "no agent has the ID "];

/// Asks from the laptop who answers at an address, which the file `name` in the job says.
pub(crate) fn who(lab: &Lab, carrier: Carrier, address: &str) -> Result<Output> {
    let ssh = lab.openssh_to("ssh", address)?;
    // With everything that it has started, and of which each would hold the output open.
    let mut ssh = Agent::by_shell(&format!("exec timeout {LIMIT_SECONDS} \"$0\" \"$@\""), &ssh);
    lab.laptop().run(ssh.env("CONVERGE_TRANSPORT", carrier.to_string()).arg("cat name"), b"")
}

/// The clients, and what they were told.
pub(crate) struct Watch<'a> {
    lab: &'a Lab,
    carrier: Carrier,
    /// The address at relay 1, 2, …
    addresses: Vec<String>,
    answers: Mutex<Vec<Answer>>,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Answer {
    relay: usize,
    asked: Instant,
    answered: Instant,
    /// Who it is, or why nobody is reached.
    owner: Result<String, String>,
}

/// Ends the questions.
pub(crate) struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Watch<'a> {
    /// Nobody asks yet.
    pub(crate) fn new(lab: &'a Lab, carrier: Carrier, addresses: impl Into<Vec<String>>) -> Self {
        let (answers, is_over) = (Mutex::default(), AtomicBool::new(false));
        Self { lab, carrier, addresses: addresses.into(), answers, is_over }
    }

    /// Asks at every address until the guard is dropped.
    pub(crate) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> End<'scope> {
        for (relay, address) in (1..).zip(&self.addresses) {
            scope.spawn(move || {
                while !self.is_over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let owner = match who(self.lab, self.carrier, address) {
                        Ok(output) if output.status.success() => Ok(output.text()),
                        Ok(output) => Err(reason(&output)),
                        Err(error) => Err(format!("{error:#}")),
                    };
                    self.answers().push(Answer { relay, asked, answered: Instant::now(), owner });
                    thread::sleep(PAUSE);
                }
            });
        }
        End(&self.is_over)
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until each relay has answered a question of later than that.
    pub(crate) fn wait_for_answers_since(&self, then: Instant) -> Result<()> {
        let has_answered =
            |relay| self.answers().iter().any(|answer| answer.relay == relay && answer.asked >= then);
        let all = || (1..=self.addresses.len()).all(has_answered).then_some(());
        eventually("answers from each relay", all).with_context(|| format!("{:#?}", self.answers()))
    }

    /// Nobody but this one was ever seen, by anybody.
    pub(crate) fn saw_only(&self, owner: &str) -> Result<()> {
        let answers = self.answers();
        let other = answers.iter().find(|answer| answer.owner.as_ref().is_ok_and(|seen| seen != owner));
        ensure!(other.is_none(), "the ID has another owner than {owner}: {other:?}");
        Ok(())
    }

    /// Somebody was always reached, but for the time from the cut until all was well, and at the relay that was cut off then,
    /// too. Prints what there was.
    pub(crate) fn judge(&self, cut_off: usize, outage: Range<Instant>) -> Result<()> {
        let answers = self.answers();
        let during = |answer: &Answer| answer.answered >= outage.start && answer.asked < outage.end;
        let mut reasons = BTreeMap::new();
        for relay in 1..=self.addresses.len() {
            let of_relay = || answers.iter().filter(|answer| answer.relay == relay);
            for (answer, reason) in
                of_relay().filter_map(|answer| Some((answer, answer.owner.as_ref().err()?)))
            {
                ensure!(relay != cut_off && during(answer), "nobody was reached: {answer:?}");
                let waits = reason == WAITS && answer.asked <= outage.start;
                let is_clear = waits || CLEAR.iter().any(|words| reason.contains(words));
                ensure!(is_clear, "that is not what there is to say: {answer:?}");
                *reasons.entry(reason).or_insert(0) += 1;
            }
            let all = of_relay().count();
            let in_outage = of_relay().filter(|answer| during(answer)).count();
            let nobody = of_relay().filter(|answer| answer.owner.is_err()).count();
            println!(
                "relay {relay}: {all} answers, {in_outage} of them in the outage; {nobody} times nobody"
            );
        }
        for (reason, times) in &reasons {
            println!("{times} times: {reason}");
        }
        Ok(())
    }
}

/// What a person is told.
fn reason(output: &Output) -> String {
    if output.status.code() == Some(TOO_LATE) {
        return WAITS.to_owned();
    }
    let mut lines = output.stderr.lines().filter(|line| line.starts_with("converge"));
    lines.next_back().map_or_else(|| output.stderr.clone(), str::to_owned)
}
