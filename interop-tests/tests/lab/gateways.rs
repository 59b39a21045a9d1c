//! The lab's routers and proxies do what they are told, and hosts move.

use super::traffic::{address_of, arrives, is_silent, udp_on};
use anyhow::{Context, Result};
use converge_interop_tests::Lab;
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

mod direct {
    use super::host_changes_its_address;
    in_a_lab! { job Direct, laptop Direct: host_changes_its_address }
}

mod nat {
    use super::{router_changes_its_address, router_lends_its_address_and_rebinds};
    in_a_lab! { job Direct, laptop Nat: router_lends_its_address_and_rebinds, router_changes_its_address }
}

mod proxy {
    use super::proxy_is_the_only_way_out_and_wants_a_password;
    in_a_lab! { job Direct, laptop HttpProxy: proxy_is_the_only_way_out_and_wants_a_password }
}

fn host_changes_its_address(lab: &Lab) -> Result<()> {
    let (udp, other) = (udp_on(lab.laptop())?, udp_on(lab.relay())?);
    let to = address_of(&other, lab.relay())?;
    let before = lab.laptop().address();
    assert_eq!(arrives(&udp, &other, to, "before")?.ip(), before);
    let after = lab.laptop().change_address()?;
    assert_ne!(after, before);
    let source = arrives(&udp, &other, to, "after")?;
    assert_eq!(source.ip(), after);
    // The old one is nobody's.
    other.send_to(b"lost", (before, source.port()))?;
    assert!(is_silent(&udp)?);
    other.send_to(b"answer", source)?;
    assert!(!is_silent(&udp)?);
    Ok(())
}

/// Sends a packet from the laptop to the relay's host and back, and returns from where it came.
fn exchange(lab: &Lab, udp: &UdpSocket, other: &UdpSocket) -> Result<SocketAddr> {
    let source = arrives(udp, other, address_of(other, lab.relay())?, "there")?;
    other.send_to(b"back", source)?;
    assert!(!is_silent(udp)?, "the answer comes through");
    Ok(source)
}

fn router_lends_its_address_and_rebinds(lab: &Lab) -> Result<()> {
    let nat = lab.laptop().nat()?;
    let (udp, other) = (udp_on(lab.laptop())?, udp_on(lab.relay())?);
    let before = exchange(lab, &udp, &other)?;
    assert_eq!(before.ip(), nat.address());
    assert_ne!(before.ip(), lab.laptop().address());
    nat.rebind()?;
    other.send_to(b"lost", before)?;
    assert!(is_silent(&udp)?, "the old port leads nowhere, without a word");
    let after = exchange(lab, &udp, &other)?;
    assert_eq!(after.ip(), before.ip());
    assert_ne!(after.port(), before.port());
    // A move behind the router stays behind the router.
    lab.laptop().change_address()?;
    assert_eq!(exchange(lab, &udp, &other)?.ip(), before.ip());
    Ok(())
}

fn router_changes_its_address(lab: &Lab) -> Result<()> {
    let (udp, other) = (udp_on(lab.laptop())?, udp_on(lab.relay())?);
    let before = exchange(lab, &udp, &other)?;
    let address = lab.laptop().nat()?.change_address()?;
    let after = exchange(lab, &udp, &other)?;
    assert_eq!(after.ip(), address);
    assert_ne!(after.ip(), before.ip());
    Ok(())
}

/// The first line of the proxy's answer to CONNECT.
fn connect(lab: &Lab, to: SocketAddr, credentials: &str) -> Result<String> {
    let url = lab.laptop().proxy()?.url_without_password();
    let proxy: SocketAddrV4 = url.strip_prefix("http://").context("an http URL")?.parse()?;
    let mut stream = lab.laptop().enter(|| Ok(TcpStream::connect(proxy)?))?;
    write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{credentials}\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

fn proxy_is_the_only_way_out_and_wants_a_password(lab: &Lab) -> Result<()> {
    let relay = lab.relay();
    let listener = relay.enter(|| Ok(TcpListener::bind((relay.address(), 0))?))?;
    let to = listener.local_addr()?;
    let past_it = lab.laptop().enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1))))?;
    assert!(past_it.is_err(), "there is no other way");
    let through = |credentials: &str| connect(lab, to, credentials);
    assert!(through("")?.contains(" 407 "));
    // worker:wrong, worker:correct-horse
    assert!(through("Proxy-Authorization: Basic d29ya2VyOndyb25n\r\n")?.contains(" 407 "));
    assert!(through("Proxy-Authorization: Basic d29ya2VyOmNvcnJlY3QtaG9yc2U=\r\n")?.contains(" 200 "));
    let (_, from) = listener.accept()?;
    assert_eq!(from.ip().to_string(), "203.0.113.10", "it is the proxy that comes");
    Ok(())
}
