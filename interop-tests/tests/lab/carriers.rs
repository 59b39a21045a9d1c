//! Which carrier is taken, and what finding it costs.

use super::shell::Shell;
use anyhow::Result;
use converge_interop_tests::{Agent, Carrier, Lab, lab::Uplink, process::eventually};
use std::time::{Duration, Instant};

in_a_lab! { job Direct, laptop Direct:
    login_works_where_udp_is_dropped,
    login_works_where_udp_is_rejected,
    agent_registers_where_udp_is_dropped,
    session_moves_when_udp_goes_dark_and_back_when_it_returns,
}

const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Logins of which the fastest counts: the machine has other things to do.
const TRIES: usize = 3;

/// How often a client has carried its session on, on this carrier, by its log.
pub(crate) fn moves(log: &str, carrier: Carrier) -> usize {
    let carrier = format!("carrier={carrier}");
    log.lines().filter(|line| line.contains("the session goes on") && line.contains(&carrier)).count()
}

/// How long logins take: the first, which knows nothing of the network as it is now, and the fastest of some that know
/// which carrier won before.
fn logins(lab: &Lab, agent: &Agent) -> Result<[Duration; 2]> {
    let login = || -> Result<Duration> {
        let start = Instant::now();
        lab.ssh(agent, &["true"])?.success()?;
        Ok(start.elapsed())
    };
    let first = login()?;
    let mut fastest = Duration::MAX;
    for _ in 0..TRIES {
        fastest = fastest.min(login()?);
    }
    Ok([first, fastest])
}

fn row(what: &str, time: Duration, open: Duration) {
    let more = time.saturating_sub(open);
    let round_trips = more.as_secs_f64() / ROUND_TRIP.as_secs_f64();
    println!(
        "{what:<16} {:>6} ms, {:>5} ms more: {round_trips:.1} round trips",
        time.as_millis(),
        more.as_millis()
    );
}

/// Measures logins with UDP open and then without, and shows them side by side. Times are for people; what is asserted
/// is what passed.
fn compare(lab: &Lab, what: &str, close: fn(&Uplink) -> &Uplink) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    let uplink = lab.laptop().uplink();
    uplink.delay(ROUND_TRIP / 2);
    let [open_first, open] = logins(lab, &agent)?;
    let before = uplink.traffic();
    assert!(before.udp_packets > 0);
    close(uplink);
    let [closed_first, closed] = logins(lab, &agent)?;
    let after = uplink.traffic();
    assert_eq!(after.udp_packets, before.udp_packets, "no UDP passes");
    assert!(after.other_packets > before.other_packets);
    println!("ssh true with a round trip of {ROUND_TRIP:?}, the first:");
    row("UDP open", open_first, open_first);
    row(what, closed_first, open_first);
    println!("the fastest of {TRIES} more:");
    row("UDP open", open, open);
    row(what, closed, open);
    Ok(())
}

fn login_works_where_udp_is_dropped(lab: &Lab) -> Result<()> {
    compare(lab, "UDP dropped", Uplink::drop_udp)
}

fn login_works_where_udp_is_rejected(lab: &Lab) -> Result<()> {
    compare(lab, "UDP rejected", Uplink::reject_udp)
}

fn agent_registers_where_udp_is_dropped(lab: &Lab) -> Result<()> {
    lab.job().uplink().drop_udp();
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    assert!(agent.process.log().contains("carrier=websocket"), "{}", agent.process.log());
    lab.ssh(&agent, &["true"])?.success()?;
    assert_eq!(lab.job().uplink().traffic().udp_packets, 0);
    assert!(lab.laptop().uplink().traffic().udp_packets > 0, "the laptop still has the better one");
    Ok(())
}

fn session_moves_when_udp_goes_dark_and_back_when_it_returns(lab: &Lab) -> Result<()> {
    let relay = lab.start_relay()?;
    let agent = lab.start_agent(&relay)?;
    let mut shell = Shell::open(lab, &agent, "auto")?;
    shell.type_line()?;
    lab.laptop().uplink().drop_udp();
    let dark = shell.type_line()?;
    println!("typing works again {:.1} s after UDP went dark", dark.as_secs_f64());
    let udp_packets = lab.laptop().uplink().traffic().udp_packets;
    shell.type_line()?;
    assert_eq!(lab.laptop().uplink().traffic().udp_packets, udp_packets);
    lab.laptop().uplink().allow_udp();
    lab.laptop().announce_network()?;
    let is_back = || (moves(&lab.log(Shell::LOG), Carrier::Quic) == 1).then_some(());
    eventually("the session to move back", is_back)?;
    shell.type_line()?;
    assert!(lab.laptop().uplink().traffic().udp_packets > udp_packets);
    shell.end()
}
