//! Plain packets between hosts of a lab, to see what the lab does with them.

use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    lab::{Host, Lab},
    process::{Output, PATIENCE},
    programs,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

/// How long nothing has to come before it is taken as lost: far more than a way through an idle lab takes.
const SILENCE: Duration = Duration::from_millis(500);

/// Pings from the laptop to the relay's host.
pub(crate) fn ping(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    let mut ping = Command::new(programs::installed("ping")?);
    lab.laptop().run(ping.arg("-n").args(arguments).arg(lab.relay().address().to_string()), b"")
}

/// Whether one ping comes back.
pub(crate) fn ping_passes(lab: &Lab) -> Result<bool> {
    Ok(ping(lab, &["-c1", "-W1"])?.status.success())
}

/// A socket on a host, on any port.
pub(crate) fn udp_on(host: &Host) -> Result<UdpSocket> {
    host.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })
}

/// Where a socket on a host is reached.
pub(crate) fn address_of(socket: &UdpSocket, host: &Host) -> Result<SocketAddrV4> {
    Ok(SocketAddrV4::new(host.address(), socket.local_addr()?.port()))
}

/// Sends a packet with `text` and returns from where it arrived.
pub(crate) fn arrives(
    from: &UdpSocket,
    to: &UdpSocket,
    address: SocketAddrV4,
    text: &str,
) -> Result<SocketAddr> {
    to.set_read_timeout(Some(PATIENCE))?;
    from.send_to(text.as_bytes(), address)?;
    let mut buffer = [0; 2000];
    let (len, source) = to.recv_from(&mut buffer).with_context(|| format!("{text:?} does not arrive"))?;
    ensure!(&buffer[..len] == text.as_bytes(), "something else arrives");
    Ok(source)
}

/// Whether nothing arrives for a while.
pub(crate) fn is_silent(socket: &UdpSocket) -> Result<bool> {
    socket.set_read_timeout(Some(SILENCE))?;
    match socket.recv_from(&mut [0; 2000]) {
        Ok(_) => Ok(false),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A TCP connection from the laptop to the relay's host: its two ends.
pub(crate) fn tcp(lab: &Lab) -> Result<(TcpStream, TcpStream)> {
    let relay = lab.relay();
    let listener = relay.enter(|| Ok(TcpListener::bind((relay.address(), 0))?))?;
    let address = listener.local_addr()?;
    let near = lab.laptop().enter(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_nodelay(true)?;
    }
    Ok((near, far))
}

/// Sends `text` through a connection.
pub(crate) fn passes(mut from: &TcpStream, mut to: &TcpStream, text: &str) -> Result<()> {
    from.write_all(text.as_bytes())?;
    let mut buffer = vec![0; text.len()];
    to.read_exact(&mut buffer).with_context(|| format!("{text:?} does not arrive"))?;
    ensure!(buffer == text.as_bytes(), "something else arrives");
    Ok(())
}
