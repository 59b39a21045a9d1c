//! Through a proxy to a relay: HTTP CONNECT ([RFC 9110 section 9.3.6]) and SOCKS 5 ([RFC 1928]).
//!
//! [RFC 9110 section 9.3.6]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6
//! [RFC 1928]: https://www.rfc-editor.org/rfc/rfc1928

use super::{
    Cause,
    failure::{AskedBy, ProxyProblem},
    resolve,
    tcp::{self, tls},
};
use crate::{
    proxy::{Credentials, ProxyScheme, ProxyUrl},
    websocket::BoxedIo,
};
use converge_certs::{Trust, TrustConfig};
use converge_proto::RelayUrl;
use data_encoding::BASE64;
use http::{
    StatusCode,
    header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION},
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_socks::{TargetAddr, tcp::Socks5Stream};

/// From the first packet to the proxy until it has connected us: below the time that a carrier has, so that it is the
/// proxy that is named.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(8);
/// The header of the proxy's answer; more is refused.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// What a proxy says is shown no longer than this.
const MAX_SHOWN: usize = 100;

/// A connection to the relay through the proxy.
pub(super) async fn connect(proxy: &ProxyUrl, relay: &RelayUrl) -> Result<BoxedIo, Cause> {
    let tunnel = tokio::time::timeout(TUNNEL_TIMEOUT, open(proxy, relay)).await;
    tunnel.unwrap_or(Err(ProxyProblem::Silent)).map_err(|problem| Cause::proxy(proxy, problem))
}

async fn open(proxy: &ProxyUrl, relay: &RelayUrl) -> Result<BoxedIo, ProxyProblem> {
    let addresses = resolve::addresses(&proxy.host(), proxy.port()).await.map_err(ProxyProblem::Resolve)?;
    let stream: BoxedIo = Box::new(tcp::connect(&addresses).await.map_err(unreachable)?);
    match proxy.scheme() {
        ProxyScheme::Http => http_connect(stream, proxy.credentials(), relay).await,
        ProxyScheme::Https => {
            let trust =
                TrustConfig::new(Trust::System).map_err(|error| ProxyProblem::Tls(error.to_string()))?;
            let config =
                trust.foreign_client_config().map_err(|error| ProxyProblem::Tls(error.to_string()))?;
            let stream = tls(stream, &proxy.host(), config)
                .await
                .map_err(|error| ProxyProblem::Tls(trust.failure().map_or(error, |failure| failure.why())))?;
            http_connect(Box::new(stream), proxy.credentials(), relay).await
        }
        ProxyScheme::Socks5h => socks5(stream, proxy.credentials(), named(relay)).await,
        ProxyScheme::Socks5 => {
            // A name that only the proxy knows is better sent there than given up.
            let address = resolve::addresses(&relay.host(), relay.port()).await;
            let address = address.ok().and_then(|addresses| addresses.first().copied());
            socks5(stream, proxy.credentials(), address.map_or_else(|| named(relay), TargetAddr::Ip)).await
        }
    }
}

fn unreachable(cause: Cause) -> ProxyProblem {
    match cause {
        Cause::Io(error) => ProxyProblem::Unreachable(error),
        _ => ProxyProblem::Silent,
    }
}

fn named(relay: &RelayUrl) -> TargetAddr<'static> {
    match relay.host().parse() {
        Ok(address) => TargetAddr::Ip(std::net::SocketAddr::new(address, relay.port())),
        Err(_) => TargetAddr::Domain(relay.host().into(), relay.port()),
    }
}

/// Asks an HTTP proxy for a connection to the relay.
async fn http_connect(
    mut stream: BoxedIo,
    credentials: Option<&Credentials>,
    relay: &RelayUrl,
) -> Result<BoxedIo, ProxyProblem> {
    stream.write_all(connect_request(credentials, relay).as_bytes()).await.map_err(broken)?;
    let mut header = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let read = stream.read(&mut chunk).await.map_err(broken)?;
        header.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if let Some(answer) = Answer::parse(&header)? {
            return answer.judge(credentials.is_some()).map(|()| stream);
        }
        if read == 0 {
            return Err(not_a_proxy("the connection ended before its answer did"));
        }
        if header.len() >= MAX_HEADER_BYTES {
            return Err(not_a_proxy("its answer has no end"));
        }
    }
}

fn connect_request(credentials: Option<&Credentials>, relay: &RelayUrl) -> String {
    let host = relay.host();
    let target = if host.contains(':') {
        format!("[{host}]:{}", relay.port())
    } else {
        format!("{host}:{}", relay.port())
    };
    let login = credentials.map(|Credentials { user, password }| {
        // RFC 7617.
        format!("{PROXY_AUTHORIZATION}: Basic {}\r\n", BASE64.encode(format!("{user}:{password}").as_bytes()))
    });
    format!("CONNECT {target} HTTP/1.1\r\n{HOST}: {target}\r\n{}\r\n", login.unwrap_or_default())
}

fn broken(error: std::io::Error) -> ProxyProblem {
    ProxyProblem::Unreachable(error)
}

fn not_a_proxy(detail: &str) -> ProxyProblem {
    ProxyProblem::NotAProxy(detail.to_owned())
}

/// What an HTTP proxy says.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    reason: String,
    /// The kinds of login it offers.
    logins: Vec<String>,
    /// Something follows the header already.
    more: bool,
}

impl Answer {
    /// `None` when more is to come.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ProxyProblem> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(ProxyProblem::NotAProxy(error.to_string())),
        };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| not_a_proxy("its answer has no status"))?;
        let offers = response.headers.iter().filter(|header| PROXY_AUTHENTICATE == header.name);
        let logins = offers.filter_map(|header| {
            let kind = std::str::from_utf8(header.value).ok()?.split_whitespace().next()?;
            Some(shown(kind.trim_end_matches(',')))
        });
        Ok(Some(Self {
            status,
            reason: shown(response.reason.unwrap_or_default()),
            logins: logins.take(8).collect(),
            more: length < bytes.len(),
        }))
    }

    fn judge(self, gave_password: bool) -> Result<(), ProxyProblem> {
        match self.status {
            // With us the first word is the dialing end's: whatever this is, it does not come from a relay.
            status if status.is_success() && self.more => Err(not_a_proxy("it speaks before it is asked")),
            status if status.is_success() => Ok(()),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(self.login(gave_password)),
            status => {
                let reason = status.canonical_reason().unwrap_or(&self.reason);
                Err(ProxyProblem::Refuses(format!("{} {reason}", status.as_u16()).trim_end().to_owned()))
            }
        }
    }

    fn login(self, gave_password: bool) -> ProxyProblem {
        let takes_password =
            self.logins.is_empty() || self.logins.iter().any(|kind| kind.eq_ignore_ascii_case("basic"));
        match (takes_password, gave_password) {
            (false, _) => ProxyProblem::OtherLogin(self.logins.join(", ")),
            (true, true) => ProxyProblem::RefusesPassword(AskedBy::Http407),
            (true, false) => ProxyProblem::WantsPassword(AskedBy::Http407),
        }
    }
}

/// A stranger's word, fit for a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

async fn socks5(
    stream: BoxedIo,
    credentials: Option<&Credentials>,
    target: TargetAddr<'static>,
) -> Result<BoxedIo, ProxyProblem> {
    let connected = match credentials {
        Some(Credentials { user, password }) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
        }
        None => Socks5Stream::connect_with_socket(stream, target).await,
    };
    connected.map(Socks5Stream::into_inner).map_err(|error| socks_problem(error, credentials.is_some()))
}

fn socks_problem(error: tokio_socks::Error, gave_password: bool) -> ProxyProblem {
    use tokio_socks::Error;
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            not_a_proxy("the connection ended before its answer did")
        }
        Error::Io(error) => ProxyProblem::Unreachable(error),
        Error::PasswordAuthFailure(_) => ProxyProblem::RefusesPassword(AskedBy::Socks),
        Error::NoAcceptableAuthMethods | Error::AuthorizationRequired if gave_password => {
            ProxyProblem::RefusesPassword(AskedBy::Socks)
        }
        Error::NoAcceptableAuthMethods | Error::AuthorizationRequired => {
            ProxyProblem::WantsPassword(AskedBy::Socks)
        }
        Error::InvalidAuthValues(detail) => ProxyProblem::Refuses(detail.to_owned()),
        Error::GeneralSocksServerFailure
        | Error::ConnectionNotAllowedByRuleset
        | Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::CommandNotSupported
        | Error::AddressTypeNotSupported => ProxyProblem::Refuses(error.to_string().to_lowercase()),
        other => ProxyProblem::NotAProxy(other.to_string().to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: &str, gave_password: bool) -> String {
        match Answer::parse(answer.as_bytes()) {
            Ok(None) => "more".to_owned(),
            Ok(Some(answer)) => match answer.judge(gave_password) {
                Ok(()) => "yes".to_owned(),
                Err(problem) => problem.to_string(),
            },
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn answers_are_understood() {
        for (answer, gave_password, judgement) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", false, "yes"),
            ("HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", true, "yes"),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, "yes"),
            ("HTTP/1.1 200 OK\r\n", false, "more"),
            ("HTT", false, "more"),
            (
                "HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n<html>",
                false,
                "wants a user name and password (HTTP status 407)",
            ),
            ("HTTP/1.1 407 Authenticate\r\n\r\n", false, "wants a user name and password (HTTP status 407)"),
            (
                "HTTP/1.1 407 Authenticate\r\nproxy-authenticate: NTLM\r\nPROXY-AUTHENTICATE: basic\r\n\r\n",
                true,
                "refuses the user name and password (HTTP status 407)",
            ),
            (
                "HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n",
                true,
                "wants a login of a kind that is not supported (NTLM, Negotiate)",
            ),
            ("HTTP/1.1 403 No way\r\n\r\n", false, "does not connect us to the relay: 403 Forbidden"),
            ("HTTP/1.1 599 Odd one\r\n\r\n", false, "does not connect us to the relay: 599 Odd one"),
            (
                "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
                false,
                "does not connect us to the relay: 302 Found",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nSSH-2.0",
                false,
                "does not answer like a proxy of this kind: it speaks before it is asked",
            ),
        ] {
            assert_eq!(judged(answer, gave_password), judgement, "{answer:?}");
        }
        for garbage in ["SSH-2.0-OpenSSH\r\n", "\u{5}\u{0}", "HTTP/1.1 9 x\r\n\r\n", "HTTP/2 200\r\n\r\n"] {
            assert!(judged(garbage, false).starts_with("does not answer like a proxy"), "{garbage:?}");
        }
    }

    #[test]
    fn request_names_the_relay_and_the_user() {
        let relay: RelayUrl = "wss://relay.example".parse().unwrap();
        let plain = "CONNECT relay.example:443 HTTP/1.1\r\nhost: relay.example:443\r\n\r\n";
        assert_eq!(connect_request(None, &relay), plain);
        let aladdin = Credentials { user: "Aladdin".to_owned(), password: "open sesame".to_owned() };
        let request = connect_request(Some(&aladdin), &"ws://[::1]:8080".parse().unwrap());
        // The example of RFC 7617 section 2.
        let login = "proxy-authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(request, format!("CONNECT [::1]:8080 HTTP/1.1\r\nhost: [::1]:8080\r\n{login}\r\n\r\n"));
    }
}
