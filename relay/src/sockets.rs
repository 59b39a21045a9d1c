//! The relay's sockets: opened here, or by whoever has started it.

use crate::{accept::quic::Newcomers, config::Config, server::BindError};
use converge_transport::quic;
use quinn::Endpoint;
use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket},
};
use tokio::net::{TcpListener, TcpSocket};

/// How many ports are tried when any will do, until one is free on UDP and TCP.
const PORT_TRIES: usize = 16;
/// Connections that may wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// Sockets that are there before the relay is, and stay when it goes, so that newcomers can wait for the next one. They
/// go before the addresses of the [`Config`].
#[derive(Debug, Default)]
pub struct Sockets {
    /// For HTTPS. It listens already.
    pub tcp: Option<StdTcpListener>,
    /// For QUIC.
    pub udp: Option<UdpSocket>,
    /// For cleartext HTTP. It listens already.
    pub http: Option<StdTcpListener>,
}

/// The addresses of sockets that were passed. They are what the relay listens on, whatever the settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Of the UDP or TCP socket.
    pub listen: Option<SocketAddr>,
    /// Of the one for cleartext HTTP.
    pub http: Option<SocketAddr>,
}

/// Sockets that a relay serves.
pub(crate) struct OpenSockets {
    pub(crate) endpoint: Endpoint,
    pub(crate) https: TcpListener,
    pub(crate) http: Option<TcpListener>,
    /// For metrics alone.
    pub(crate) metrics: Option<TcpListener>,
    /// The address of HTTPS.
    pub(crate) listen: SocketAddr,
    /// Who is to be told what while the relay stops.
    pub(crate) newcomers: Newcomers,
}

impl OpenSockets {
    /// The address of the cleartext listener.
    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The address of the listener for metrics.
    pub(crate) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl Sockets {
    /// Where those are that are there.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn passed(&self) -> io::Result<Passed> {
        let Self { tcp, udp, http } = self;
        let tcp = tcp.as_ref().map(StdTcpListener::local_addr).transpose()?;
        let udp = udp.as_ref().map(UdpSocket::local_addr).transpose()?;
        Ok(Passed { listen: udp.or(tcp), http: http.as_ref().map(StdTcpListener::local_addr).transpose()? })
    }

    /// Opens those that are not there yet.
    pub(crate) fn open(self, config: &Config, ids: &quic::ConnectionIds) -> Result<OpenSockets, BindError> {
        let Self { tcp, udp, http } = self;
        let newcomers = if udp.is_some() { Newcomers::LeaveForTheNext } else { Newcomers::Refuse };
        let (https, endpoint) = both(config, ids, tcp, udp)?;
        let listen = https.local_addr().map_err(|source| bind_error(config.listen, "tcp", source))?;
        let http = match (http, config.http) {
            (Some(http), _) => Some(adopt(http, listen)?),
            (None, Some(address)) => Some(bind_tcp(address)?),
            (None, None) => None,
        };
        let metrics = config.metrics.listen.map(bind_tcp).transpose()?;
        Ok(OpenSockets { endpoint, https, http, metrics, listen, newcomers })
    }
}

/// TCP and UDP on one port number.
fn both(
    config: &Config,
    ids: &quic::ConnectionIds,
    tcp: Option<StdTcpListener>,
    udp: Option<UdpSocket>,
) -> Result<(TcpListener, Endpoint), BindError> {
    let quic_with =
        |socket| quic::listen_on(socket, &config.identity, config.live.limits.streams_per_link, ids);
    let quic_on = |address| quic_with(quic::bind(address)?);
    match (tcp, udp) {
        (None, None) => bind_both(config.listen, quic_on),
        (Some(tcp), None) => {
            let tcp = adopt(tcp, config.listen)?;
            let address = tcp.local_addr().map_err(|source| bind_error(config.listen, "tcp", source))?;
            let endpoint = quic_on(address).map_err(|source| bind_error(address, "udp", source))?;
            Ok((tcp, endpoint))
        }
        (tcp, Some(udp)) => {
            let udp_error = |source| bind_error(config.listen, "udp", source);
            let address = udp.local_addr().map_err(udp_error)?;
            let tcp = tcp.map_or_else(|| bind_tcp(address), |tcp| adopt(tcp, address))?;
            let tcp_address = tcp.local_addr().map_err(|source| bind_error(address, "tcp", source))?;
            if tcp_address != address {
                return Err(BindError::Addresses { tcp: tcp_address, udp: address });
            }
            Ok((tcp, quic_with(udp).map_err(udp_error)?))
        }
    }
}

fn bind_both(
    listen: SocketAddr,
    quic_on: impl Fn(SocketAddr) -> io::Result<Endpoint>,
) -> Result<(TcpListener, Endpoint), BindError> {
    let mut tries = 0;
    loop {
        let tcp = bind_tcp(listen)?;
        let address = tcp.local_addr().map_err(|source| bind_error(listen, "tcp", source))?;
        match quic_on(address) {
            Ok(endpoint) => return Ok((tcp, endpoint)),
            Err(source)
                if listen.port() == 0 && tries < PORT_TRIES && source.kind() == io::ErrorKind::AddrInUse =>
            {
                tries += 1;
            }
            Err(source) => return Err(bind_error(address, "udp", source)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        // So that a relay can be started again while connections of the last one are still closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| bind_error(address, "tcp", source))
}

/// A listener that was passed; `near` is for the error only.
fn adopt(listener: StdTcpListener, near: SocketAddr) -> Result<TcpListener, BindError> {
    let adopted = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    adopted.map_err(|source| bind_error(near, "tcp", source))
}

fn bind_error(address: SocketAddr, transport: &'static str, source: io::Error) -> BindError {
    BindError::Bind { address, transport, source }
}
