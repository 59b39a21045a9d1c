//! Who may use the API.
//!
//! On a relay that only its own machine can reach, and that knows no tokens, every program there may, but no web page: a
//! page in a browser on that machine could otherwise have its scripts ask for anything. Everywhere else
//! [`Access`](crate::access::Access) decides, which wants a token unless the operator has said otherwise.
//!
//! Another relay of the cluster asks on behalf of somebody whom it has let in by these rules, and says what they may.

use super::problem::{Kind, Problem};
use crate::{
    access::{Auth, Credentials, Grant, Refusal, Scope},
    cluster::answer::FromRelay,
    http::Connection,
    shared::Shared,
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts, uri::Authority},
};
use converge_proto::Id;
use std::{net::IpAddr, sync::Arc};

/// A request that may read, and about which IDs.
pub(super) struct MayRead(pub(super) Grant);

/// A request that may also change things, and about which IDs.
pub(super) struct MayWrite(pub(super) Grant);

/// Whether a request that was let in for `scope` may be about this ID.
pub(super) fn admit(shared: &Shared, scope: Scope, grant: &Grant, id: &Id) -> Result<(), Problem> {
    shared.access.admit(scope, grant, id).map_err(|refusal| problem(&refusal))
}

impl FromRequestParts<Arc<Shared>> for MayRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        check(parts, shared, Scope::ApiRead).await.map(Self)
    }
}

impl FromRequestParts<Arc<Shared>> for MayWrite {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        check(parts, shared, Scope::ApiWrite).await.map(Self)
    }
}

/// Whether the relay asks this peer for nothing, because only its own machine can reach it and it knows no tokens.
fn needs_no_token(shared: &Shared, peer: IpAddr) -> bool {
    let settings = shared.access.settings();
    let has_tokens =
        !settings.tokens.is_empty() || settings.tokens_file.is_some() || !settings.issuers.is_empty();
    shared.api.is_private && !has_tokens && peer.is_loopback()
}

/// Whether a request needs no token, and comes from a program on this machine rather than from a page in its browser.
pub(in crate::http) fn is_for_programs_here(
    shared: &Shared,
    uri: &Uri,
    headers: &HeaderMap,
    peer: IpAddr,
) -> bool {
    let is_no_page = || refuse_other_pages(uri, headers).and_then(|()| refuse_other_names(uri, headers));
    needs_no_token(shared, peer) && is_no_page().is_ok()
}

async fn check(parts: &Parts, shared: &Shared, scope: Scope) -> Result<Grant, Problem> {
    if let Some(FromRelay(from)) = parts.extensions.get::<FromRelay>() {
        return if scope == Scope::ApiRead || from.may_write {
            Ok(from.grant.clone())
        } else {
            Err(Problem::new(Kind::Forbidden, "the relay that asks says that this is for reading only"))
        };
    }
    let peer = peer(parts).ok_or_else(|| Problem::new(Kind::Forbidden, "nobody knows where you are"))?;
    if shared.access.settings().auth(scope) == Auth::None {
        refuse_other_pages(&parts.uri, &parts.headers)?;
    } else if needs_no_token(shared, peer) {
        refuse_other_pages(&parts.uri, &parts.headers)?;
        refuse_other_names(&parts.uri, &parts.headers)?;
        shared.access.check_network(scope, peer).map_err(|refusal| problem(&refusal))?;
        return Ok(Grant::default());
    }
    let credentials = Credentials::of_headers(&parts.headers);
    shared.access.check(scope, &credentials, peer).await.map_err(|refusal| problem(&refusal))
}

fn problem(refusal: &Refusal) -> Problem {
    let kind = match refusal.status() {
        StatusCode::UNAUTHORIZED => Kind::NoToken,
        StatusCode::FORBIDDEN => Kind::Forbidden,
        _ => Kind::TooSlow,
    };
    Problem::new(kind, refusal.to_string())
}

/// The address that a request comes from.
pub(super) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Connection>().map(|connection| connection.peer.address.ip())
}

/// Without a token, nothing tells a program from a page in a browser but what browsers add: the page's origin, and the
/// name that the page believes this relay has.
fn refuse_other_pages(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = host(uri, headers);
    let is_own = text(headers, &header::ORIGIN)
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host));
    if is_own { Ok(()) } else { Err(not_for_pages()) }
}

fn refuse_other_names(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if host(uri, headers).is_some_and(is_this_machine) { Ok(()) } else { Err(not_for_pages()) }
}

fn not_for_pages() -> Problem {
    Problem::new(
        Kind::Forbidden,
        "without a token the API is not for web pages, nor by another name than this machine's",
    )
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    uri.authority().map(Authority::as_str).or_else(|| text(headers, &header::HOST))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // One that is there and not text is not nothing.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Whether `HOST[:PORT]` is this machine by a name that no web page can have.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let uri = Uri::from_static("/api/v1/agents");
        refuse_other_pages(&uri, &headers).and_then(|()| refuse_other_names(&uri, &headers)).is_ok()
    }

    #[test]
    fn programs_on_this_machine_pass_and_web_pages_do_not() {
        for host in ["localhost", "LOCALHOST:4433", "127.0.0.1:4433", "[::1]:4433", "[::1]"] {
            assert!(passes(host, None), "{host}");
        }
        assert!(passes("127.0.0.1:4433", Some("https://127.0.0.1:4433")), "the relay's own page");
        assert!(!passes("127.0.0.1:4433", Some("https://evil.example")), "another page");
        assert!(!passes("127.0.0.1:4433", Some("null")), "a page of no origin");
        assert!(!passes("evil.example:4433", None), "a name that was made to lead here");
        assert!(!passes("localhost.evil.example", None));
    }
}
