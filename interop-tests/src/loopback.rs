//! Ports and echoes on this machine, for what is forwarded.

use crate::process::PATIENCE;
use anyhow::{Context, Result};
use rustix::{
    fd::AsFd,
    net::{Shutdown, shutdown, sockopt},
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A port on which nobody listens, for programs that take no listener from others.
///
/// It is on an address of its own below 127.0.0.0/8, as ports of 127.0.0.1 are given to whoever asks next.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((own_address(), 0))?.local_addr()?)
}

/// A port of 127.0.0.1, for a program that is to come back to it. It is not one of those that the system gives to whoever asks
/// (`net.ipv4.ip_local_port_range`), so nobody is given it meanwhile.
///
/// # Errors
/// When none was free in a hundred tries.
pub fn lasting_port() -> Result<SocketAddr> {
    (0..100)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(10_000..32_768))))
        .find(|address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok())
        .context("no port is free")
}

fn own_address() -> Ipv4Addr {
    let [second, third, fourth] = rand::random::<[u8; 3]>();
    // Neither the net's own address, nor its broadcast address, nor anything that is usual.
    Ipv4Addr::new(127, second.clamp(1, 254), third, fourth.clamp(2, 254))
}

/// Sends back what every connection sends, until the end of the program. Returns where.
///
/// # Errors
/// When it cannot listen.
pub fn echo() -> Result<SocketAddr> {
    echo_on(own_address())
}

/// The same on a given address, which may have a name.
///
/// # Errors
/// When it cannot listen.
pub fn echo_on(address: Ipv4Addr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    Ok(address)
}

/// The same on a Unix socket.
///
/// # Errors
/// When it cannot listen.
pub fn unix_echo(path: &Path) -> Result<()> {
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    Ok(())
}

fn answer<S: AsFd + Send + 'static>(stream: S)
where
    for<'a> &'a S: Read + Write,
{
    std::thread::spawn(move || {
        // The other side may leave at any time.
        let _ = std::io::copy(&mut &stream, &mut &stream);
        let _ = shutdown(&stream, Shutdown::Write);
    });
}

/// Sends these bytes and their end, and returns what comes back until its end.
///
/// # Errors
/// When the connection breaks, or nothing moves for [`PATIENCE`].
pub fn exchange<S: AsFd + Sync>(stream: &S, bytes: &[u8]) -> Result<Vec<u8>>
where
    for<'a> &'a S: Read + Write,
{
    for direction in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(stream, direction, Some(PATIENCE))?;
    }
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            let mut writer = stream;
            writer.write_all(bytes)?;
            Ok(shutdown(stream, Shutdown::Write)?)
        });
        let (mut answer, mut reader) = (Vec::new(), stream);
        reader.read_to_end(&mut answer).context("no end of the answer")?;
        sender.join().ok().context("the sender panicked")??;
        Ok(answer)
    })
}

/// Connects to a port behind a SOCKS5 proxy; the name is for the proxy to find.
///
/// # Errors
/// When the proxy refuses.
pub fn through_socks(proxy: SocketAddr, name: &str, port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // RFC 1928: version 5, one way to log in: none.
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    anyhow::ensure!(chosen == [5, 0], "the proxy wants a login: {chosen:?}");
    // Connect to a name.
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len())?];
    request.extend(name.as_bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    anyhow::ensure!(answer[..2] == [5, 0], "the proxy answers {answer:?}");
    Ok(stream)
}

/// What a home's router does to one UDP flow: it leads to the other side from a port of its own, and from another one when it
/// has forgotten which.
#[derive(Debug)]
pub struct UdpNat {
    /// Where the flow enters.
    pub address: SocketAddr,
    outside: Arc<Mutex<UdpSocket>>,
    inside: Arc<UdpSocket>,
    insider: Arc<Mutex<Option<SocketAddr>>>,
    behind: SocketAddr,
}

impl UdpNat {
    /// A router before `behind`. Its threads end with the program.
    ///
    /// # Errors
    /// When the system has no sockets.
    pub fn before(behind: SocketAddr) -> Result<Self> {
        let inside = Arc::new(UdpSocket::bind((own_address(), 0))?);
        let nat = Self {
            address: inside.local_addr()?,
            outside: Arc::new(Mutex::new(UdpSocket::bind((own_address(), 0))?)),
            inside,
            insider: Arc::default(),
            behind,
        };
        let (inside, outside, insider) = (nat.inside.clone(), nat.outside.clone(), nat.insider.clone());
        std::thread::spawn(move || {
            let mut packet = vec![0; 65536];
            while let Ok((bytes, from)) = inside.recv_from(&mut packet) {
                *lock(&insider) = Some(from);
                // A packet that is lost is sent again.
                let _ = lock(&outside).send_to(&packet[..bytes], behind);
            }
        });
        nat.lead_back()?;
        Ok(nat)
    }

    /// The way back from the present port.
    fn lead_back(&self) -> Result<()> {
        let outside = lock(&self.outside).try_clone()?;
        let (inside, insider, behind) = (self.inside.clone(), self.insider.clone(), self.behind);
        std::thread::spawn(move || {
            let mut packet = vec![0; 65536];
            while let Ok((bytes, from)) = outside.recv_from(&mut packet) {
                if from == behind
                    && let Some(insider) = *lock(&insider)
                {
                    let _ = inside.send_to(&packet[..bytes], insider);
                }
            }
        });
        Ok(())
    }

    /// From now on it is another port, at another address.
    ///
    /// # Errors
    /// When the system has no sockets.
    pub fn forget(&self) -> Result<()> {
        *lock(&self.outside) = UdpSocket::bind((own_address(), 0))?;
        self.lead_back()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
