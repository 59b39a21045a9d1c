//! What `converge doctor` says about a network, and what it ends with.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Carrier, Setup,
    process::{Output, run},
};
use std::{
    io::{Read, Write, copy},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

on_both_carriers! {
    healthy_relay_passes_every_check,
    wrong_pin_is_found,
    web_server_is_no_relay,
    nothing_listens,
    relay_that_is_reached_by_tcp_only_has_websocket,
    json_is_one_object,
    wrong_command_lines_are_refused,
}

fn doctor(setup: &Setup, arguments: &[&str]) -> Result<Output> {
    run(setup.converge()?.arg("doctor").args(arguments), b"")
}

/// The line of one check.
fn line<'a>(table: &'a str, check: &str) -> Result<&'a str> {
    table
        .lines()
        .find(|line| line.starts_with(&format!("{check} ")))
        .with_context(|| format!("{check} in {table}"))
}

fn assert_outcomes(table: &str, outcomes: &[(&str, &str)]) -> Result<()> {
    for (check, outcome) in outcomes {
        let line = line(table, check)?;
        assert_eq!(line.split_whitespace().nth(1), Some(*outcome), "{table}");
    }
    Ok(())
}

/// Answers every TCP connection in a thread of its own, until the test ends.
fn serve(answer: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

fn healthy_relay_passes_every_check(setup: &mut Setup) -> Result<()> {
    let log_before = setup.relay.process.log();
    for target in [&setup.relay.url, &setup.agent.address] {
        let output = doctor(setup, &[target])?.success()?;
        let table = output.text();
        let (used, unused) = match setup.carrier {
            Carrier::Quic => (["quic", "mtu", "version"], ["tcp", "tls", "websocket"]),
            Carrier::WebSocket => (["tcp", "tls", "websocket"], ["quic", "mtu", "mtu"]),
        };
        assert_outcomes(&table, &used.map(|check| (check, "PASS")))?;
        assert_outcomes(&table, &unused.map(|check| (check, "SKIP")))?;
        assert!(table.contains("which alone is allowed"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    }
    // Nothing of it is worth a line in the relay's log.
    assert_eq!(setup.relay.process.log(), log_before);
    Ok(())
}

fn wrong_pin_is_found(setup: &mut Setup) -> Result<()> {
    let (before, _) = setup.relay.url.split_once("pin-sha256=").context("a pin in the URL")?;
    let output = doctor(setup, &[&format!("{before}pin-sha256={}", "A".repeat(43))])?;
    assert_eq!(output.status.code(), Some(4), "{}", output.stderr);
    let table = output.text();
    let check = if setup.carrier == Carrier::Quic { "quic" } else { "tls" };
    assert_outcomes(&table, &[(check, "FAIL")])?;
    assert!(table.contains("another key than the pin"), "{table}");
    assert!(table.contains("fix: copy the relay's URL again"), "{table}");
    Ok(())
}

fn web_server_is_no_relay(setup: &mut Setup) -> Result<()> {
    let address = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n");
    })?;
    let output = doctor(setup, &[&format!("ws://{address}")])?;
    assert_eq!(output.status.code(), Some(4), "{}", output.stderr);
    let table = output.text();
    assert_outcomes(&table, &[("quic", "SKIP"), ("tcp", "PASS"), ("tls", "SKIP"), ("websocket", "FAIL")])?;
    assert!(line(&table, "websocket")?.contains("answers 200 OK and is not a relay"), "{table}");
    Ok(())
}

fn nothing_listens(setup: &mut Setup) -> Result<()> {
    // A port that was free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let output = doctor(setup, &[&format!("https://{address}")])?;
    assert_eq!(output.status.code(), Some(4), "{}", output.stderr);
    let table = output.text();
    let check = if setup.carrier == Carrier::Quic { "quic" } else { "tcp" };
    assert_outcomes(&table, &[(check, "FAIL")])?;
    assert!(table.contains("nothing else is allowed"), "{table}");
    Ok(())
}

fn relay_that_is_reached_by_tcp_only_has_websocket(setup: &mut Setup) -> Result<()> {
    let (authority, pin) = setup.relay.url.split_once('#').context("a pin in the URL")?;
    let relay: SocketAddr = authority.strip_prefix("https://").context("an https URL")?.parse()?;
    let forwarder = serve(move |mut near| {
        let Ok(mut far) = TcpStream::connect(relay) else { return };
        let (Ok(mut near_too), Ok(mut far_too)) = (near.try_clone(), far.try_clone()) else { return };
        let back = thread::spawn(move || {
            let _ = copy(&mut far_too, &mut near_too);
            let _ = near_too.shutdown(Shutdown::Write);
        });
        let _ = copy(&mut near, &mut far);
        let _ = far.shutdown(Shutdown::Write);
        let _ = back.join();
    })?;
    let output = doctor(setup, &[&format!("https://{forwarder}#{pin}")])?;
    let table = output.text();
    match setup.carrier {
        Carrier::Quic => {
            assert_eq!(output.status.code(), Some(4), "{table}");
            assert_outcomes(&table, &[("quic", "FAIL"), ("mtu", "SKIP"), ("version", "SKIP")])?;
            assert!(table.contains("fix: check that the relay runs there"), "{table}");
        }
        Carrier::WebSocket => {
            assert_eq!(output.status.code(), Some(0), "{table}");
            assert_outcomes(&table, &[("tcp", "PASS"), ("tls", "PASS"), ("websocket", "PASS")])?;
            // The relay tells the time with its answer.
            assert_outcomes(&table, &[("clock", "PASS"), ("version", "PASS")])?;
        }
    }
    Ok(())
}

fn json_is_one_object(setup: &mut Setup) -> Result<()> {
    let output = doctor(setup, &["--json", &setup.relay.url])?.success()?;
    let value: serde_json::Value = serde_json::from_str(&output.text())?;
    assert_eq!(value["carrier"], setup.carrier.to_string(), "{value}");
    let checks = value["checks"].as_array().context("checks")?;
    let names: Vec<_> = checks.iter().filter_map(|check| check["check"].as_str()).collect();
    let all = ["dns", "proxy", "quic", "mtu", "tcp", "tls", "websocket", "clock", "version"];
    assert_eq!(names, all, "{value}");
    for check in checks {
        let result = check["result"].as_str().context("a result")?;
        assert!(["pass", "skip"].contains(&result), "{value}");
        assert!(check["time_ms"].is_u64() && check["seen"].is_string() && check["fix"].is_null(), "{value}");
    }
    Ok(())
}

fn wrong_command_lines_are_refused(setup: &mut Setup) -> Result<()> {
    for arguments in [&["gopher://relay"][..], &["--proxy", "socks4://x", "https://relay"], &["--nonsense"]] {
        let output = doctor(setup, arguments)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", output.stderr);
        assert!(output.stdout.is_empty());
    }
    Ok(())
}
