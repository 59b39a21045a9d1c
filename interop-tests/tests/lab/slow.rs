//! A line as bad as they come: 5 Mbit/s, 100 ms, and every fiftieth packet is lost.

use super::{
    shell::Shell,
    transfer::{Transfer, Way},
};
use anyhow::Result;
use converge_interop_tests::{Carrier, Lab};
use std::time::Duration;

in_a_lab! { job Direct, laptop Direct: quic_works_on_a_bad_line, websocket_works_on_a_bad_line }

const TRANSFER_MIB: u64 = 2;
const QUEUE_BYTES: u32 = 64 * 1024;

fn work_on_a_bad_line(lab: &Lab, carrier: Carrier) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    lab.laptop().uplink().delay(Duration::from_millis(50)).lose(0.02).slow(5_000_000, QUEUE_BYTES);
    let mut shell = Shell::open(lab, &agent, &carrier.to_string())?;
    let times = (0..20).map(|_| shell.type_line()).collect::<Result<Vec<_>>>()?;
    let slowest = times.iter().max().copied().unwrap_or_default();
    println!("{carrier}: 20 lines typed, the slowest answer took {slowest:.1?}");
    Transfer::start(lab, &agent, Way::Get, TRANSFER_MIB, &carrier.to_string())?.finish()?;
    assert!(lab.laptop().uplink().traffic().lost_packets > 0);
    shell.end()
}

fn quic_works_on_a_bad_line(lab: &Lab) -> Result<()> {
    work_on_a_bad_line(lab, Carrier::Quic)
}

fn websocket_works_on_a_bad_line(lab: &Lab) -> Result<()> {
    work_on_a_bad_line(lab, Carrier::WebSocket)
}
