//! `make demo`: a relay, a job with an agent, and the ssh and sftp of this machine in it, over both carriers.

// Figures for people: what a float loses of a byte count does not show.
#![allow(clippy::cast_precision_loss)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_interop_tests::{
    Agent, Carrier, Relay,
    files::{sha256, write_random},
    process::run,
    programs,
    setup::{clean, make_key},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};
use tokio::signal::unix::{SignalKind, signal};

/// What is copied each way on each carrier.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Shows what Converge does, with your own ssh and sftp, on this machine alone.
#[derive(Parser)]
struct Arguments {
    /// Keep the relay and the agents open until Ctrl-C, for trying by hand
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    match demo(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("converge-demo-").tempdir()?;
    let key = directory.path().join("key");
    make_key(&key)?;
    println!("Everything is in {} and goes with the demo.\n", directory.path().display());

    let begun = Instant::now();
    let relay = Relay::start(directory.path())?;
    took("relay started", begun, &relay.url);

    let mut jobs = Vec::new();
    for carrier in Carrier::ALL {
        let job = directory.path().join(format!("job-{carrier}"));
        fs::create_dir(&job)?;
        fs::copy(key.with_extension("pub"), job.join(".authorized_keys"))?;
        let begun = Instant::now();
        let agent = Agent::start(&job, &job, &relay.url, ["--transport", &carrier.to_string()])?;
        took("agent started in a job", begun, &format!("{} over {carrier}", agent.id));
        jobs.push(Job { carrier, agent, key: key.clone(), directory: job });
    }
    let file = directory.path().join("file");
    write_random(&file, FILE_BYTES)?;
    let sum = sha256(&file)?;

    for job in &jobs {
        println!("\nOver {}:", job.carrier);
        job.open_a_session()?;
        job.copy_up_and_down(&file, &sum)?;
    }

    println!(
        "\nBy hand: a relay in one terminal, an agent in the directory of a job in a second, and you in a third:"
    );
    println!("  converge-relay");
    println!("  converge-agent --relay URL          # with your public key in .authorized_keys");
    println!("  converge ssh ADDRESS                # or sftp, scp; ADDRESS is what the agent prints");
    if arguments.stay {
        stay(&jobs)?;
    }
    drop((jobs, relay));
    println!("\nStopped; nothing is left running.");
    Ok(())
}

/// An agent in a job, and how to get there.
struct Job {
    carrier: Carrier,
    agent: Agent,
    key: PathBuf,
    directory: PathBuf,
}

impl Job {
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(programs::own("converge")?);
        command.args(["--transport", &self.carrier.to_string(), program, &self.agent.address]);
        command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]).arg(&self.key);
        clean(&mut command);
        Ok(command)
    }

    /// A session on a terminal of its own, in the job's directory and environment.
    fn open_a_session(&self) -> Result<()> {
        let begun = Instant::now();
        let mut command = self.command("ssh")?;
        command.args(["-q", "-tt", "tty; pwd; echo id=$CONVERGE_ID; exit 7"]);
        let output = run(&mut command, b"")?;
        let said = output.text();
        let lines: Vec<_> = said.lines().map(str::trim).collect();
        ensure!(
            output.status.code() == Some(7),
            "ssh ended with {}, not 7: {said}{}",
            output.status,
            output.stderr
        );
        let directory = self.directory.canonicalize()?.display().to_string();
        ensure!(lines.contains(&&*directory), "the session is not in {directory}: {said}");
        ensure!(
            lines.contains(&&*format!("id={}", self.agent.id)),
            "the session does not know its ID: {said}"
        );
        took(
            "ssh: a terminal in the job, `exit 7` gave status 7",
            begun,
            lines.first().copied().unwrap_or_default(),
        );
        Ok(())
    }

    fn copy_up_and_down(&self, file: &Path, sum: &str) -> Result<()> {
        let mib = FILE_BYTES / (1024 * 1024);
        let back = self.directory.join("back");
        self.sftp(&format!("sftp: {mib} MiB up"), &format!("put {} copy", file.display()))?;
        ensure!(sha256(&self.directory.join("copy"))? == sum, "the file that went up is another one");
        self.sftp(&format!("sftp: {mib} MiB down"), &format!("get copy {}", back.display()))?;
        ensure!(sha256(&back)? == sum, "the file that came back is another one");
        println!("  the file came back as it was: sha256 {sum}");
        Ok(())
    }

    fn sftp(&self, what: &str, batch: &str) -> Result<()> {
        let begun = Instant::now();
        let mut command = self.command("sftp")?;
        command.args(["-q", "-b", "-"]);
        let output = run(&mut command, format!("{batch}\n").as_bytes())?;
        ensure!(output.status.success(), "sftp failed: {}", output.stderr);
        let seconds = begun.elapsed().as_secs_f64();
        took(what, begun, &format!("{:.0} MiB/s", FILE_BYTES as f64 / (1024.0 * 1024.0) / seconds));
        Ok(())
    }
}

fn took(what: &str, begun: Instant, detail: &str) {
    println!("  {what:<52} {:>6} ms   {detail}", begun.elapsed().as_millis());
}

/// Waits for Ctrl-C.
fn stay(jobs: &[Job]) -> Result<()> {
    let converge = programs::own("converge")?;
    println!("\nStill open. Try in another terminal:");
    for job in jobs {
        let (converge, key) = (converge.display(), job.key.display());
        println!("  {converge} --transport {} ssh '{}' -i {key}", job.carrier, job.agent.address);
    }
    println!("Ctrl-C ends it.");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
