//! The PROXY protocol, versions 1 and 2: what a trusted proxy says first about the peer that it speaks for.
//!
//! Of the stream nothing beyond the header is consumed. Version 1 is there for nginx, which writes no other.

use crate::limits::ProxyProtocol;
use ppp::{v1, v2};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// What every header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version, family and length.
const FIXED_BYTES: usize = 16;
/// What version 2 may have behind that: addresses, and what the proxy adds, which is not looked at.
const MAX_REST_BYTES: usize = 2048;
/// What every header of version 1 begins with; no HTTP and no TLS does.
const WORD: &[u8; 6] = b"PROXY ";
/// The longest header of version 1, with its CR LF.
const MAX_LINE_BYTES: usize = 107;
/// A header that comes in pieces is looked at again after this time. Proxies send it in one piece.
const PIECES_INTERVAL: Duration = Duration::from_millis(10);

/// Why there is no peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("it sent no PROXY protocol header; see --proxy-protocol")]
    Missing,
    #[error("its PROXY protocol header makes no sense: {0}")]
    Malformed(String),
    #[error("its PROXY protocol header is larger than {MAX_REST_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the header. `None`: the proxy speaks for itself, or there is no header and need not be one. Has no time limit.
pub(crate) async fn read(
    stream: &mut TcpStream,
    mode: ProxyProtocol,
) -> Result<Option<SocketAddr>, HeaderError> {
    if mode == ProxyProtocol::Off {
        return Ok(None);
    }
    match version(stream).await? {
        Some(Version::One) => read_v1(stream).await,
        Some(Version::Two) => read_v2(stream).await,
        None if mode == ProxyProtocol::Optional => Ok(None),
        None => Err(HeaderError::Missing),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Looks at the first bytes, without taking them.
async fn version(stream: &TcpStream) -> io::Result<Option<Version>> {
    let mut start = [0; SIGNATURE.len()];
    loop {
        let len = stream.peek(&mut start).await?;
        let seen = start.get(..len).unwrap_or_default();
        if seen.starts_with(WORD) {
            return Ok(Some(Version::One));
        }
        if seen.starts_with(SIGNATURE) {
            return Ok(Some(Version::Two));
        }
        let may_become = WORD.starts_with(seen) || SIGNATURE.starts_with(seen);
        if seen.is_empty() || !may_become {
            return Ok(None);
        }
        tokio::time::sleep(PIECES_INTERVAL).await;
    }
}

async fn read_v2(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await?;
    let len = match *header.as_slice() {
        [.., high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    if len > MAX_REST_BYTES {
        return Err(HeaderError::TooLarge);
    }
    header.resize(FIXED_BYTES + len, 0);
    stream.read_exact(header.get_mut(FIXED_BYTES..).unwrap_or_default()).await?;
    let header = v2::Header::try_from(header.as_slice());
    let header = header.map_err(|error| HeaderError::Malformed(error.to_string()))?;
    if header.command == v2::Command::Local {
        // The proxy's own, such as a health check.
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(all) => Some((all.source_address, all.source_port).into()),
        v2::Addresses::IPv6(all) => Some((IpAddr::V6(all.source_address), all.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

async fn read_v1(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut line = [0; MAX_LINE_BYTES];
    loop {
        let len = stream.peek(&mut line).await?;
        let seen = line.get(..len).unwrap_or_default();
        if let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") {
            let header = line.get_mut(..end + 2).unwrap_or_default();
            stream.read_exact(header).await?;
            let header = v1::Header::try_from(&*header);
            let header = header.map_err(|error| HeaderError::Malformed(error.to_string()))?;
            return Ok(match header.addresses {
                v1::Addresses::Tcp4(all) => Some((all.source_address, all.source_port).into()),
                v1::Addresses::Tcp6(all) => Some((IpAddr::V6(all.source_address), all.source_port).into()),
                v1::Addresses::Unknown => None,
            });
        }
        if seen.len() == MAX_LINE_BYTES {
            return Err(HeaderError::Malformed("its line does not end".to_owned()));
        }
        tokio::time::sleep(PIECES_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    /// What is read of `bytes`, sent in pieces of this size, and what is left for who comes after.
    async fn read_of(
        bytes: &[u8],
        piece: usize,
        mode: ProxyProtocol,
    ) -> (Result<Option<SocketAddr>, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut proxy = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        proxy.set_nodelay(true).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let sending = async {
            for piece in bytes.chunks(piece) {
                proxy.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy.shutdown().await.unwrap();
        };
        let reading = async {
            let read = read(&mut stream, mode).await;
            let mut rest = Vec::new();
            // After an error nobody cares.
            let _ = stream.read_to_end(&mut rest).await;
            (read, rest)
        };
        tokio::join!(sending, reading).1
    }

    fn v2_header(family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let len = u16::try_from(addresses.len() + tlvs.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[0x21, family], &len, addresses, tlvs].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_and_nothing_beyond() {
        let v4 = [192, 0, 2, 1, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
        let v6: Vec<u8> = [[0x20; 16].as_slice(), &[0; 16], &[0, 9, 0, 80]].concat();
        let cases: [(Vec<u8>, Option<&str>); 6] = [
            (v2_header(0x11, &v4, &[]), Some("192.0.2.1:4660")),
            (v2_header(0x11, &v4, &[4, 0, 2, 0, 0]), Some("192.0.2.1:4660")),
            (v2_header(0x21, &v6, &[]), Some("[2020:2020:2020:2020:2020:2020:2020:2020]:9")),
            (v2_header(0x00, &[], &[]), None),
            (b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\n".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
        ];
        for (header, wanted) in cases {
            for piece in [1, 7, 1000] {
                let all = [header.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
                let (peer, rest) = read_of(&all, piece, ProxyProtocol::Required).await;
                let wanted = wanted.map(|text| text.parse().unwrap());
                assert_eq!(peer.unwrap(), wanted, "{header:?}");
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[tokio::test]
    async fn without_a_header_it_is_as_the_operator_says() {
        for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"PRI * HTTP/2.0\r\n", &[0x16, 3, 1, 0, 0]] {
            let (peer, rest) = read_of(bytes, 3, ProxyProtocol::Optional).await;
            assert_eq!((peer.unwrap(), rest.as_slice()), (None, bytes));
            let (peer, _) = read_of(bytes, 3, ProxyProtocol::Required).await;
            assert!(matches!(peer, Err(HeaderError::Missing)), "{peer:?}");
        }
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let too_large = v2_header(0x11, &[0; 12], &[0; MAX_REST_BYTES]);
        let cut = &v2_header(0x11, &[0; 12], &[])[..20];
        let endless = [WORD.as_slice(), &[b' '; 200]].concat();
        let nonsense = b"PROXY TCP4 one two 3 4\r\n".as_slice();
        let short = v2_header(0x11, &[0; 4], &[]);
        for bytes in [too_large.as_slice(), cut, &endless, nonsense, &short] {
            let (peer, _) = read_of(bytes, 1000, ProxyProtocol::Optional).await;
            assert!(peer.is_err(), "{peer:?} of {bytes:?}");
        }
    }
}
