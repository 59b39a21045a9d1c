//! What connections cost of which one direction is over: nothing. And what is sent last before the end arrives.

use super::table::median;
use crate::{Carrier, Process, Setup, loopback::free_port, process::PATIENCE};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

/// What each connection is sent last, by the side whose direction is still open.
const TAIL_BYTES: usize = 256 * 1024;
/// A loop that does not wait takes a processor, or what others leave of it.
const MOST_OF_A_PROCESSOR: f64 = 0.25;
/// How often it is looked at; the middle counts.
const LOOKS: usize = 3;

/// The processor time that real programs take while connections forwarded by `ssh -L` are idle, first open and then closed by one
/// side, half of them by each. Then the other side sends the last bytes and closes.
///
/// # Errors
/// When a byte does not arrive, or a program does not rest while it has nothing to do.
pub fn print(connections: usize, watched: Duration) -> Result<()> {
    println!(
        "\n{connections} idle connections through `ssh -L`, then half of them closed by each side in its direction, then {} KiB \
         the other way and the end\n",
        TAIL_BYTES / 1024
    );
    println!(
        "| carrier | processor time of relay, agent, client with ssh: open, ms per s | half-closed, ms per s | KiB sent last | \
         KiB arrived |\n| --- | --- | --- | --- | --- |"
    );
    for carrier in Carrier::ALL {
        let setup = Setup::start(carrier)?;
        let (ssh, mut pairs) = connect(&setup, connections)?;
        let open = spent(&setup, &ssh, watched)?;
        // Each has one that closes and one that still may send.
        for (number, (here, there)) in pairs.iter_mut().enumerate() {
            if number % 2 == 0 {
                std::mem::swap(here, there);
            }
            here.shutdown(Shutdown::Write)?;
            ensure!(there.read(&mut [0])? == 0, "bytes that nobody has sent");
        }
        let half_closed = spent(&setup, &ssh, watched)?;
        let arrived: usize = pairs.into_iter().map(last_bytes).sum::<Result<_>>()?;
        let sent = connections * TAIL_BYTES;
        println!(
            "| {carrier} | {} | {} | {} | {} |",
            milliseconds(open),
            milliseconds(half_closed),
            sent / 1024,
            arrived / 1024
        );
        ensure!(arrived == sent, "{} bytes were lost", sent - arrived);
        ensure!(
            half_closed.iter().all(|part| *part < MOST_OF_A_PROCESSOR),
            "a program does not rest:\n{}",
            setup.agent.process.log()
        );
    }
    Ok(())
}

/// So many connections through ssh: the end here, and the end beyond the job.
fn connect(setup: &Setup, connections: usize) -> Result<(Process, Vec<(TcpStream, TcpStream)>)> {
    let service = TcpListener::bind("127.0.0.1:0")?;
    let entrance = free_port()?;
    let mut ssh = setup.openssh("ssh")?;
    ssh.args([
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-L",
        &format!("{entrance}:{}", service.local_addr()?),
    ]);
    // It runs once ssh listens.
    ssh.args(["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected"]);
    let mut ssh = Process::start("ssh", &mut ssh, setup.path())?;
    ssh.wait_for("that it is connected", |line| (line == "connected").then_some(()))?;
    let pairs = (0..connections).map(|_| {
        let here = TcpStream::connect(entrance)?;
        let (there, _) = service.accept()?;
        for end in [&here, &there] {
            end.set_read_timeout(Some(PATIENCE))?;
            end.set_write_timeout(Some(PATIENCE))?;
        }
        Ok((here, there))
    });
    let pairs = pairs.collect::<Result<_>>()?;
    Ok((ssh, pairs))
}

/// How much of a processor relay, agent and client take; with the client, ssh.
fn spent(setup: &Setup, ssh: &Process, watched: Duration) -> Result<[f64; 3]> {
    let now = || -> Result<[Duration; 3]> {
        Ok([setup.relay.process.cpu_time()?, setup.agent.process.cpu_time()?, ssh.cpu_time_with_children()?])
    };
    let mut looks = [const { Vec::new() }; 3];
    for _ in 0..LOOKS {
        let before = now()?;
        std::thread::sleep(watched);
        for ((look, after), before) in looks.iter_mut().zip(now()?).zip(before) {
            look.push(after.saturating_sub(before).as_secs_f64() / watched.as_secs_f64());
        }
    }
    Ok(looks.map(|look| median(&look)))
}

/// Sends the last bytes from the end that still may, and closes it. Returns how many arrive before the end.
fn last_bytes((receiver, mut sender): (TcpStream, TcpStream)) -> Result<usize> {
    let sending = std::thread::spawn(move || sender.write_all(&vec![7; TAIL_BYTES]));
    let mut arrived = Vec::new();
    (&receiver).read_to_end(&mut arrived).context("no end after the last bytes")?;
    sending.join().ok().context("the sender panicked")??;
    Ok(arrived.len())
}

fn milliseconds(parts: [f64; 3]) -> String {
    parts.map(|part| format!("{:.0}", part * 1000.0)).join(", ")
}
