//! `make bench`: speed and memory beside direct OpenSSH, measured in one run and printed as a table of ratios.
//!
//! Every round measures every path once, one after the other, so that what else the machine does meets all of them
//! alike. The figures are medians over the rounds; a ratio is between figures of the same run and the same cipher.

// Figures for people: what a float loses of a byte count does not show.
#![allow(clippy::cast_precision_loss)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_interop_tests::{
    Agent, Carrier, Process, Setup,
    bench::table::median,
    cluster::{Cluster, through},
    files::write_random,
    process::run,
    programs,
    setup::{clean, make_key},
};
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

/// AES-GCM on both sides of a ratio; `converge ssh` asks for the same.
const CIPHERS: &str = "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com";

/// Speed and memory of ssh and sftp through relay and agent, beside direct OpenSSH on the same machine.
#[derive(Parser)]
struct Arguments {
    /// What is copied, in MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// How many times everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many sessions are opened per round to time their set-up
    #[arg(long, default_value_t = 10)]
    sessions: usize,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is measured on every path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Cat,
    SftpGet,
    SftpPut,
    True,
}

impl Measure {
    const ALL: [Self; 4] = [Self::Cat, Self::SftpGet, Self::SftpPut, Self::True];

    fn name(self) -> &'static str {
        match self {
            Self::Cat => "ssh cat, MiB/s",
            Self::SftpGet => "sftp get, MiB/s",
            Self::SftpPut => "sftp put, MiB/s",
            Self::True => "ssh true, ms",
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
    let routes = [
        Route::direct(directory.path(), "direct, OpenSSH's first cipher", &[])?,
        Route::direct(directory.path(), "direct, aes128-gcm", &["-o", CIPHERS])?,
        Route::converge(Carrier::Quic)?,
        Route::converge(Carrier::WebSocket)?,
        Route::across(Carrier::Quic)?,
        Route::across(Carrier::WebSocket)?,
    ];
    let file = directory.path().join("file");
    write_random(&file, arguments.mib * 1024 * 1024)?;

    let mut figures = vec![vec![Vec::new(); Measure::ALL.len()]; routes.len()];
    for round in 1..=arguments.rounds {
        for (route, figures) in routes.iter().zip(&mut figures) {
            eprintln!("round {round} of {}: {}", arguments.rounds, route.name);
            for (measure, figures) in Measure::ALL.iter().zip(figures) {
                figures.push(route.measure(*measure, &file, arguments)?);
            }
        }
    }
    print_tables(&routes, &figures, arguments)
}

/// One way for bytes to get from here to there.
struct Route {
    name: String,
    end: End,
}

enum End {
    /// OpenSSH's own server.
    Sshd { _sshd: Process, directory: PathBuf, port: u16, options: Vec<String> },
    /// An agent, through a relay.
    Agent(Box<Setup>),
    /// An agent at another relay than the client.
    Across(Box<Across>),
}

/// Two relays, and an agent at the first of them.
struct Across {
    setup: Setup,
    cluster: Cluster,
    agent: Agent,
    /// Through the second relay.
    address: String,
}

impl Route {
    fn direct(directory: &Path, name: &str, options: &[&str]) -> Result<Self> {
        let directory = directory.join(name);
        fs::create_dir(&directory)?;
        make_key(&directory.join("key"))?;
        make_key(&directory.join("host_key"))?;
        // A port that is free now; sshd takes no listener from others.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let quoted = |file: &str| format!("\"{}\"", directory.join(file).display());
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nSubsystem sftp internal-sftp\nMaxStartups 200\nSetEnv HOME={}\n",
            quoted("host_key"),
            quoted("key.pub"),
            // Debian's bash reads ~/.bashrc for sshd's commands too; what is in it is not to be measured.
            quoted("."),
        );
        fs::write(directory.join("sshd_config"), config)?;
        if rustix::process::geteuid().is_root() {
            // Where sshd locks itself into before a login; Debian makes it when the service starts.
            fs::create_dir_all("/run/sshd").context("cannot make sshd's /run/sshd")?;
        }
        let mut sshd = Command::new(programs::installed("sshd")?);
        sshd.arg("-D").arg("-f").arg(directory.join("sshd_config"));
        let sshd = Process::start("sshd", &mut sshd, &directory)?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let route = Self { name: name.to_owned(), end: End::Sshd { _sshd: sshd, directory, port, options } };
        route.wait_until_it_answers()?;
        Ok(route)
    }

    /// sshd says nothing when it is ready, so it is asked.
    fn wait_until_it_answers(&self) -> Result<()> {
        let deadline = Instant::now() + converge_interop_tests::process::PATIENCE;
        loop {
            let output = run(self.command("ssh")?.arg("true"), b"")?;
            if output.status.success() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not answer: {}", self.name, output.stderr);
        }
    }

    fn converge(carrier: Carrier) -> Result<Self> {
        Ok(Self { name: format!("converge, {carrier}"), end: End::Agent(Box::new(Setup::start(carrier)?)) })
    }

    fn across(carrier: Carrier) -> Result<Self> {
        let setup = Setup::start(carrier)?;
        let cluster = Cluster::start(&setup.path().join("cluster"), 2, [""; 0])?;
        let transport = carrier.to_string();
        let arguments = ["--transport", &transport, "--id", "across"];
        let agent = Agent::start(&setup.new_job("across")?, setup.path(), cluster.url(1), arguments)?;
        let address = through(&agent, cluster.url(2));
        let across = Across { setup, cluster, agent, address };
        Ok(Self { name: format!("converge, {carrier}, two relays"), end: End::Across(Box::new(across)) })
    }

    /// `ssh` or `sftp` up to and with the host; for sftp in batch mode.
    fn command(&self, program: &str) -> Result<Command> {
        let batch: &[&str] = if program == "sftp" { &["-q", "-b", "-"] } else { &["-q"] };
        match &self.end {
            End::Sshd { directory, port, options, .. } => {
                let mut command = Command::new(programs::installed(program)?);
                command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]);
                command.arg(directory.join("key")).args(["-o", &format!("Port={port}")]);
                command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
                command.args(options).args(batch).arg("127.0.0.1");
                clean(&mut command);
                Ok(command)
            }
            End::Agent(setup) => {
                let mut command = setup.openssh(program)?;
                command.args(batch);
                Ok(command)
            }
            End::Across(across) => {
                let mut command = across.setup.openssh_to(program, &across.address)?;
                command.args(batch);
                Ok(command)
            }
        }
    }

    /// One figure, in the unit of the measure.
    fn measure(&self, measure: Measure, file: &Path, arguments: &Arguments) -> Result<f64> {
        let copied = file.with_extension("copied");
        let megabytes = |seconds: f64| arguments.mib as f64 / seconds;
        match measure {
            Measure::Cat => {
                let mut command = self.command("ssh")?;
                command.arg(format!("cat {}", file.display()));
                self.time(&mut command, None).map(megabytes)
            }
            Measure::SftpGet => {
                let batch = format!("get {} {}\n", file.display(), copied.display());
                self.time(&mut self.command("sftp")?, Some(&batch)).map(megabytes)
            }
            Measure::SftpPut => {
                let batch = format!("put {} {}\n", file.display(), copied.display());
                self.time(&mut self.command("sftp")?, Some(&batch)).map(megabytes)
            }
            Measure::True => {
                let mut times = Vec::new();
                for _ in 0..arguments.sessions {
                    times.push(self.time(self.command("ssh")?.arg("true"), None)? * 1000.0);
                }
                Ok(median(&times))
            }
        }
    }

    /// How many seconds a command takes from its start to its end. What it prints goes nowhere.
    fn time(&self, command: &mut Command, input: Option<&str>) -> Result<f64> {
        let stdin = match input {
            Some(text) => {
                let file = tempfile::NamedTempFile::new()?;
                fs::write(file.path(), text)?;
                Stdio::from(File::open(file.path())?)
            }
            None => Stdio::null(),
        };
        let begun = Instant::now();
        let status = command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(status.success(), "{}: {command:?} ended with {status}", self.name);
        Ok(seconds)
    }
}

fn print_tables(routes: &[Route], figures: &[Vec<Vec<f64>>], arguments: &Arguments) -> Result<()> {
    println!("{}", programs::version(&programs::installed("ssh")?, "-V")?);
    println!(
        "{} MiB, {} rounds, {} sessions a round; median (least to most); x: of direct with the same cipher\n",
        arguments.mib, arguments.rounds, arguments.sessions
    );
    print!("| {:<30} |", "route");
    for measure in Measure::ALL {
        print!(" {:<28} |", measure.name());
    }
    println!("\n| --- | --- | --- | --- | --- |");
    for (route, figures_of_route) in routes.iter().zip(figures) {
        print!("| {:<30} |", route.name);
        for (index, values) in figures_of_route.iter().enumerate() {
            let (least, most) =
                (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
            let ratio = median(values) / median(&figures[1][index]);
            let text = format!("{:.0} ({least:.0} to {most:.0}) {ratio:.2}x", median(values));
            print!(" {text:<28} |");
        }
        println!();
    }
    print_second_relay(routes, figures);
    println!("\n| peak memory, MiB | relay | agent |\n| --- | --- | --- |");
    for route in routes {
        let (relay, agent) = match &route.end {
            End::Sshd { .. } => continue,
            End::Agent(setup) => (&setup.relay.process, &setup.agent.process),
            // The one with the agent.
            End::Across(across) => (&across.cluster.relay(1).process, &across.agent.process),
        };
        let mib =
            |process: &Process| process.peak_memory_bytes().map(|bytes| bytes as f64 / (1024.0 * 1024.0));
        println!("| {} | {:.1} | {:.1} |", route.name, mib(relay)?, mib(agent)?);
    }
    Ok(())
}

/// What the way over a second relay costs: the figures of each route over two of them, by those of the same over one.
fn print_second_relay(routes: &[Route], figures: &[Vec<Vec<f64>>]) {
    print!("\n| two relays : one |");
    for measure in Measure::ALL {
        print!(" {} |", measure.name());
    }
    println!("\n| --- | --- | --- | --- | --- |");
    for (one, of_one) in routes.iter().zip(figures) {
        let across = routes.iter().position(|route| route.name == format!("{}, two relays", one.name));
        let Some(of_two) = across.and_then(|across| figures.get(across)) else { continue };
        print!("| {} |", one.name);
        for (two, one) in of_two.iter().zip(of_one) {
            print!(" {:.2} |", median(two) / median(one));
        }
        println!();
    }
}
