//! The tables of docs/scaling.md: what follows when one of several relays dies, in a simulation.

use clap::Parser;
use converge_interop_tests::simulation::{Limited, Notice, Redials, Report, Setting};

/// Plays the death of a relay at several sizes. The same seed gives the same tables.
#[derive(Parser)]
struct Arguments {
    /// Agents in all and relays, as AGENTS:RELAYS
    #[arg(long, value_delimiter = ',', value_parser = size, default_value = "10000:3,100000:5,1000000:30")]
    sizes: Vec<(u32, u16)>,
    /// Transactions that etcd makes in a second, if not what the simulation takes
    #[arg(long)]
    etcd_writes_per_second: Option<std::num::NonZeroU32>,
    /// For everything that is a matter of chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn size(text: &str) -> Result<(u32, u16), String> {
    let (agents, relays) = text.split_once(':').ok_or("write AGENTS:RELAYS")?;
    let agents = agents.parse().map_err(|error| format!("{agents}: {error}"))?;
    let relays = relays.parse().map_err(|error| format!("{relays}: {error}"))?;
    if relays < 2 {
        return Err("one relay dies, and another one must be left".to_owned());
    }
    Ok((agents, relays))
}

/// A title, and what is other than the rules say.
type Table = (&'static str, &'static dyn Fn(&mut Setting));

fn main() {
    let arguments = Arguments::parse();
    let tables: [Table; 5] = [
        ("By the rules; the death is told at once", &|_| {}),
        ("By the rules; the relay falls silent", &|setting| setting.notice = Notice::Silence),
        ("By the rules, told at once, with an etcd four times slower", &|setting| {
            setting.etcd_writes_per_second /= 4;
        }),
        ("What must not be: the same, and relays ask etcd for everything at once", &|setting| {
            setting.etcd_writes_per_second /= 4;
            setting.claims_at_once = None;
        }),
        ("What must not be: no waits, no patience, no limits", &|setting| {
            setting.redials = Redials::AtOnce;
            setting.limited = Limited::No;
            setting.claims_at_once = None;
        }),
    ];
    for (title, change) in tables {
        println!("\n{title}:\n\n| agents, relays | {} |", Report::HEADER);
        println!("|{}", " --- |".repeat(Report::COLUMNS + 1));
        for &(agents, relays) in &arguments.sizes {
            let mut setting = Setting::new(agents, relays);
            if let Some(writes) = arguments.etcd_writes_per_second {
                setting.etcd_writes_per_second = writes.get();
            }
            setting.seed = arguments.seed;
            change(&mut setting);
            println!("| {agents}, {relays} | {} |", setting.run());
        }
    }
}
