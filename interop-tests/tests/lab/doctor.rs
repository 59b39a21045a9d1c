//! What `converge doctor` says in networks as they are.

use anyhow::{Context, Result};
use converge_interop_tests::{Lab, process::Output};
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

in_a_lab! { job Direct, laptop Direct:
    doctor_tells_a_good_relay_from_one_behind_dropped_udp,
    doctor_tells_what_is_no_relay,
}

/// Runs it at the laptop, shows what it says, and finds the outcome of each check.
fn doctor(lab: &Lab, url: &str, status: i32, outcomes: &[(&str, &str)]) -> Result<Output> {
    let output = lab.laptop().run(lab.converge()?.args(["doctor", url]), b"")?;
    let table = output.text();
    println!("$ converge doctor {url}    # ends with {status}\n{table}");
    assert_eq!(output.status.code(), Some(status), "{table}{}", output.stderr);
    for (check, outcome) in outcomes {
        let line = table.lines().find(|line| line.starts_with(&format!("{check} ")));
        let line = line.with_context(|| format!("{check} in {table}"))?;
        assert_eq!(line.split_whitespace().nth(1), Some(*outcome), "{table}");
    }
    Ok(output)
}

fn doctor_tells_a_good_relay_from_one_behind_dropped_udp(lab: &Lab) -> Result<()> {
    let relay = lab.start_relay()?;
    lab.laptop().uplink().mtu(1400);
    doctor(lab, &relay.url, 0, &[("quic", "PASS"), ("tcp", "PASS"), ("tls", "PASS"), ("websocket", "PASS")])?;
    lab.laptop().uplink().drop_udp();
    let dropped = doctor(lab, &relay.url, 0, &[("quic", "FAIL"), ("websocket", "PASS")])?;
    assert!(dropped.text().contains("fix: "), "{}", dropped.text());
    Ok(())
}

fn doctor_tells_what_is_no_relay(lab: &Lab) -> Result<()> {
    let relay = lab.start_relay()?;
    let (before, _) = relay.url.split_once("pin-sha256=").context("a pin in the URL")?;
    let wrong_pin = format!("{before}pin-sha256={}", "A".repeat(43));
    doctor(lab, &wrong_pin, 4, &[("quic", "FAIL"), ("tcp", "PASS"), ("tls", "FAIL")])?;

    let address = lab.relay().address();
    let web_server = lab.relay().enter(|| Ok(TcpListener::bind((address, 0))?))?;
    let port = web_server.local_addr()?.port();
    // Lives as long as the test program.
    thread::spawn(move || {
        for mut stream in web_server.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n");
        }
    });
    let web = doctor(lab, &format!("ws://{address}:{port}"), 4, &[("tcp", "PASS"), ("websocket", "FAIL")])?;
    assert!(web.text().contains("is not a relay"), "{}", web.text());

    let free = lab.relay().enter(|| Ok(TcpListener::bind((address, 0))?.local_addr()?.port()))?;
    doctor(
        lab,
        &format!("https://{address}:{free}"),
        4,
        &[("quic", "FAIL"), ("tcp", "FAIL"), ("tls", "SKIP")],
    )?;
    Ok(())
}
