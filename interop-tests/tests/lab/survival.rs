//! Sessions survive what happens to the network and to the relay.

use super::{
    carriers::moves,
    shell::Shell,
    transfer::{Transfer, Way},
};
use anyhow::{Context, Result};
use converge_interop_tests::{Carrier, Lab, process::eventually};
use rustix::process::Signal;
use std::{thread, time::Duration};

mod direct {
    use super::{
        quic_session_survives_a_minute_without_network, transfer_survives_changes_of_address_on_quic,
        transfer_survives_changes_of_address_on_websocket, transfer_survives_relays_that_are_killed,
        transfer_survives_udp_that_comes_and_goes, websocket_session_survives_a_minute_without_network,
    };
    in_a_lab! { job Direct, laptop Direct:
        transfer_survives_relays_that_are_killed,
        transfer_survives_changes_of_address_on_quic,
        transfer_survives_changes_of_address_on_websocket,
        transfer_survives_udp_that_comes_and_goes,
        quic_session_survives_a_minute_without_network,
        websocket_session_survives_a_minute_without_network,
    }
}

mod nat {
    use super::{session_survives_a_new_outside_address, session_survives_a_rebind};
    in_a_lab! { job Direct, laptop Nat: session_survives_a_rebind, session_survives_a_new_outside_address }
}

const TRANSFER_MIB: u64 = 256;
const RELAY_KILLS: u32 = 20;
const ADDRESS_CHANGES: u32 = 10;
const UDP_OUTAGES: usize = 5;
/// Longer than any timeout of a link.
const OUTAGE: Duration = Duration::from_mins(1);

fn transfer_survives_relays_that_are_killed(lab: &Lab) -> Result<()> {
    let mut relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    let mut transfer = Transfer::start(lab, &agent, Way::Put, TRANSFER_MIB, "auto")?;
    transfer.disturb(RELAY_KILLS, |_| {
        relay.process.signal(Signal::KILL)?;
        relay.process.wait()?;
        relay = lab.start_relay()?;
        Ok(())
    })?;
    transfer.finish()?;
    Ok(())
}

fn change_addresses(lab: &Lab, carrier: Carrier) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    let mut transfer = Transfer::start(lab, &agent, Way::Get, TRANSFER_MIB, &carrier.to_string())?;
    transfer.disturb(ADDRESS_CHANGES, |_| lab.laptop().change_address().map(drop))?;
    transfer.finish()?;
    Ok(())
}

fn transfer_survives_changes_of_address_on_quic(lab: &Lab) -> Result<()> {
    change_addresses(lab, Carrier::Quic)
}

fn transfer_survives_changes_of_address_on_websocket(lab: &Lab) -> Result<()> {
    change_addresses(lab, Carrier::WebSocket)
}

fn transfer_survives_udp_that_comes_and_goes(lab: &Lab) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    let uplink = lab.laptop().uplink();
    // 1 MiB/s: it has to be under way until UDP has come and gone often enough.
    uplink.slow(8 * 1024 * 1024, 128 * 1024);
    let transfer = Transfer::start(lab, &agent, Way::Put, TRANSFER_MIB, "auto")?;
    let moved = |carrier: Carrier, times: usize| {
        let moved = || (moves(&transfer.log(), carrier) == times).then_some(());
        eventually(&format!("move {times} to {carrier}"), moved).with_context(|| transfer.log())
    };
    eventually("the first packets", || (uplink.traffic().udp_packets > 1000).then_some(()))?;
    for times in 1..=UDP_OUTAGES {
        uplink.drop_udp();
        moved(Carrier::WebSocket, times)?;
        uplink.allow_udp();
        lab.laptop().announce_network()?;
        moved(Carrier::Quic, times)?;
    }
    uplink.clear();
    transfer.finish()?;
    Ok(())
}

/// A counter runs in a terminal while nobody reaches the relay for a minute.
fn lose_the_network_for_a_minute(lab: &Lab, carrier: Carrier) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    let count = "stty -echo; n=0; while ! read -t 0.05 stop; do n=$((n+1)); echo \"line $n.\"; done; echo counted $n.";
    let mut command = lab.openssh("ssh", &agent)?;
    command.env("CONVERGE_TRANSPORT", carrier.to_string()).args(["-t", &format!("exec bash -c '{count}'")]);
    let mut terminal = lab.open_terminal("counter", &command)?;
    let mut seen = terminal.expect("line 20.\r\n")? + "line 20.\r\n";
    lab.relay().uplink().cut();
    // The minute itself is the scenario.
    thread::sleep(OUTAGE);
    lab.relay().uplink().heal();
    eventually("the session to be back", || lab.log("counter").contains("back after").then_some(()))?;
    terminal.type_text("stop\r")?;
    let (rest, status) = terminal.finish()?;
    assert!(status.success(), "{status}");
    seen += &rest;
    let mut lines = seen.lines();
    let last = lines.next_back().context("a last line")?;
    let last: u32 = last
        .strip_prefix("counted ")
        .and_then(|last| last.strip_suffix('.'))
        .context(last.to_owned())?
        .parse()?;
    println!("{last} lines");
    assert!(last > 20, "it went on");
    assert!(lines.eq((1..=last).map(|number| format!("line {number}."))), "{seen}");
    Ok(())
}

fn quic_session_survives_a_minute_without_network(lab: &Lab) -> Result<()> {
    lose_the_network_for_a_minute(lab, Carrier::Quic)
}

fn websocket_session_survives_a_minute_without_network(lab: &Lab) -> Result<()> {
    lose_the_network_for_a_minute(lab, Carrier::WebSocket)
}

/// Does something to the router in the middle of a session on each carrier.
fn survive(lab: &Lab, change: impl Fn() -> Result<()>) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    for carrier in Carrier::ALL {
        let mut shell = Shell::open(lab, &agent, &carrier.to_string())?;
        shell.type_line()?;
        change()?;
        println!("{carrier}: typing works again after {:.1} s", shell.type_line()?.as_secs_f64());
        shell.end()?;
    }
    Ok(())
}

fn session_survives_a_rebind(lab: &Lab) -> Result<()> {
    survive(lab, || lab.laptop().nat()?.rebind())
}

fn session_survives_a_new_outside_address(lab: &Lab) -> Result<()> {
    survive(lab, || lab.laptop().nat()?.change_address().map(drop))
}
