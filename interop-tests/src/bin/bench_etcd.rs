//! What etcd costs where several relays act as one: for docs/scaling.md.
//!
//! A real etcd with its data in a folder of its own gets the transaction by which a relay takes an ID, again and again: on
//! condition that the key is not there, with a value as a relay writes it and under a lease. Then a relay of the cluster
//! starts beside it and reads all of it. etcd, what asks it and the relay share the machine: CPU seconds say more than
//! rates.

// Figures for people: what a float loses of a count does not show.
#![allow(clippy::cast_precision_loss)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_interop_tests::{Process, Relay, loopback::free_port, process::eventually, programs::installed};
use converge_proto::HostKey;
use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp, WatchOptions};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::{
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Where the relay looks, unless it is told otherwise.
const PREFIX: &str = "/converge/";
/// Longer than a measurement.
const LEASE_SECONDS: i64 = 3600;

/// Transactions per second of a real etcd, and the size of an ID in it and in a relay.
#[derive(Parser)]
struct Arguments {
    /// IDs that are written for each row
    #[arg(long, default_value_t = 20_000)]
    ids: u32,
    /// Transactions under way at once, a row for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    at_once: Vec<u32>,
    /// Relays that watch, a row for each with the most transactions at once
    #[arg(long, value_delimiter = ',', default_values_t = [10, 30])]
    watchers: Vec<u32>,
    /// Where etcd's data go, as its disk decides; by default a temporary folder
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    converge_certs::install_provider();
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-etcd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn bench(arguments: &Arguments) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("converge-etcd-");
    let directory = match &arguments.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    };
    let etcd = Etcd::start(directory.path()).await?;
    let empty = relays_memory(directory.path(), 1, &etcd.url)?;
    let memory_before = etcd.process.resident_memory_bytes()?;
    println!(
        "\n| at once | watching | transactions/s | p50, ms | p99, ms | CPU of etcd per transaction, µs |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut written = 0;
    let most = arguments.at_once.iter().copied().max().unwrap_or(1);
    let rows = arguments.at_once.iter().map(|at_once| (*at_once, 0));
    for (at_once, watching) in rows.chain(arguments.watchers.iter().map(|watching| (most, *watching))) {
        // One at a time takes too long for all of them.
        let ids = if at_once == 1 { arguments.ids.min(1000) } else { arguments.ids };
        let row = Box::pin(etcd.write(written..written + ids, at_once, watching)).await?;
        written += ids;
        println!("| {at_once} | {watching} | {row} |");
    }
    let status = Client::connect([&etcd.url], None).await?.maintenance_client().status().await?;
    let memory = etcd.process.resident_memory_bytes()?;
    let full = relays_memory(directory.path(), 2, &etcd.url)?;
    let each = |bytes: u64| bytes as f64 / f64::from(written);
    println!("\n{written} IDs, each with a value of {} bytes:\n", holding(0)?.len());
    println!("| of each ID | bytes |\n| --- | --- |");
    println!("| etcd's file | {:.0} |", each(u64::try_from(status.db_size())?));
    println!("| etcd's memory, resident | {:.0} |", each(memory.saturating_sub(memory_before)));
    println!(
        "| a relay's memory, resident, for an ID of any relay | {:.0} |",
        each(full.saturating_sub(empty))
    );
    Ok(())
}

struct Etcd {
    process: Process,
    url: String,
}

/// One row of the table.
struct Row {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    cpu_each: Duration,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let (p50, p99) = (ms(self.p50), ms(self.p99));
        write!(f, "{:.0} | {p50:.1} | {p99:.1} | {}", self.per_second, self.cpu_each.as_micros())
    }
}

impl Etcd {
    async fn start(directory: &Path) -> Result<Self> {
        let [url, peer] = [format!("http://{}", free_port()?), format!("http://{}", free_port()?)];
        let mut command = Command::new(installed("etcd")?);
        command.arg("--data-dir").arg(directory.join("etcd")).args(["--logger=zap", "--log-level=error"]);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        let process = Process::start("etcd", &mut command, directory)?;
        let patience = Instant::now() + Duration::from_mins(1);
        loop {
            let asked = async { Client::connect([&url], None).await?.kv_client().get("x", None).await };
            match asked.await {
                Ok(_) => return Ok(Self { process, url }),
                Err(error) if Instant::now() > patience => return Err(error).with_context(|| process.log()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Writes these IDs, while so many look on.
    async fn write(&self, ids: std::ops::Range<u32>, at_once: u32, watching: u32) -> Result<Row> {
        let count = ids.len();
        let seen = Arc::new(AtomicU64::new(0));
        let mut watches = JoinSet::new();
        for _ in 0..watching {
            let options = WatchOptions::new().with_prefix();
            let mut watch =
                Client::connect([&self.url], None).await?.watch_client().watch(PREFIX, Some(options)).await?;
            let seen = seen.clone();
            watches.spawn(async move {
                while let Ok(Some(response)) = watch.message().await {
                    seen.fetch_add(response.events().len() as u64, Ordering::Relaxed);
                }
            });
        }
        let lease =
            Client::connect([&self.url], None).await?.lease_client().grant(LEASE_SECONDS, None).await?.id();
        let next = Arc::new(AtomicU32::new(ids.start));
        let (cpu, begun) = (self.process.cpu_time()?, Instant::now());
        let mut writers = JoinSet::new();
        // As many connections as a small cluster has relays.
        let clients = at_once.min(8);
        for client in 0..clients {
            let client_at_once = at_once / clients + u32::from(client < at_once % clients);
            let client = Client::connect([&self.url], None).await?;
            for _ in 0..client_at_once {
                let (mut kv, next, end) = (client.kv_client(), next.clone(), ids.end);
                writers.spawn(async move {
                    let mut took = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= end {
                            return anyhow::Ok(took);
                        }
                        let key = format!("{PREFIX}ids/bench-{number}");
                        let put = PutOptions::new().with_lease(lease);
                        let txn = Txn::new()
                            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, 0)])
                            .and_then([TxnOp::put(key.clone(), holding(number)?, Some(put))])
                            .or_else([TxnOp::get(key, None)]);
                        let asked = Instant::now();
                        ensure!(kv.txn(txn).await?.succeeded(), "bench-{number} was there already");
                        took.push(asked.elapsed());
                    }
                });
            }
        }
        let mut took = Vec::new();
        while let Some(written) = writers.join_next().await {
            took.extend(written??);
        }
        let elapsed = begun.elapsed();
        let due = u64::from(watching) * count as u64;
        eventually("every change to be seen", || (seen.load(Ordering::Relaxed) >= due).then_some(()))?;
        let cpu = self.process.cpu_time()?.saturating_sub(cpu);
        took.sort();
        let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
        Ok(Row {
            per_second: count as f64 / elapsed.as_secs_f64(),
            p50: at(50),
            p99: at(99),
            cpu_each: cpu / u32::try_from(count)?.max(1),
        })
    }
}

/// What a relay writes for an agent (`relay/src/registry/etcd/holding.rs`).
fn holding(number: u32) -> Result<String> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "")?;
    let key = HostKey::new(key.public_key())?;
    let (openssh, fingerprint) = (key.to_openssh(), key.fingerprint());
    Ok(format!(
        r#"{{"relay":3,"run":8123456789012345,"key":"{openssh}","fingerprint":"{fingerprint}","claims":"repository example/project, branch main"}}"#
    ))
}

/// What a relay of the cluster has resident once it has read everything.
fn relays_memory(directory: &Path, number: u16, etcd: &str) -> Result<u64> {
    let program = converge_interop_tests::programs::own("converge-relay")?;
    let files = format!("relay-{number}");
    let cluster = |words: &str| -> Result<()> {
        let mut command = Command::new(&program);
        command.arg("cluster").args(words.split(' ')).current_dir(directory);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    if number == 1 {
        cluster("init --dir home --names localhost")?;
    }
    cluster(&format!("join --dir home --number {number} --out {files}"))?;
    let mut command = Relay::command(directory, "127.0.0.1:0")?;
    command.arg("--cluster-dir").arg(directory.join(&files));
    command.args(["--cluster-listen", "127.0.0.1:0", "--etcd", etcd]);
    let relay = Relay::start_as(&files, &mut command, directory)?;
    // It goes on reading after it has said where it is.
    let mut last = 0;
    eventually("the relay's memory to settle", || {
        std::thread::sleep(Duration::from_secs(2));
        let now = relay.process.resident_memory_bytes().ok()?;
        (std::mem::replace(&mut last, now) == now).then_some(now)
    })
}
