//! What a peer shows, wherever it is written.

use axum::http::{HeaderMap, Uri, header::AUTHORIZATION};
use converge_proto::rendezvous::Token;

/// What a peer shows.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A bearer token; one that is no token at all counts as none.
    pub token: Option<Token>,
}

impl Credentials {
    /// A token, or none.
    pub fn new(token: Option<Token>) -> Self {
        Self { token }
    }

    /// Of an HTTP request: `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())?.parse().ok()
        });
        Self { token }
    }

    /// The same, or `?token=TOKEN`, for what cannot set a header: a browser's WebSocket, a link to a page.
    pub fn of_request(headers: &HeaderMap, uri: &Uri) -> Self {
        let of_headers = Self::of_headers(headers);
        if of_headers.token.is_some() {
            return of_headers;
        }
        let query = uri.query().unwrap_or_default();
        let value = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token");
        Self { token: value.and_then(|(_, token)| token.parse().ok()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(authorization: Option<&str>, uri: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        let credentials = Credentials::of_request(&headers, &uri.parse().unwrap());
        credentials.token.map(|token| token.secret().to_owned())
    }

    #[test]
    fn header_goes_before_query() {
        assert_eq!(token(Some("Bearer abc"), "/?token=def").as_deref(), Some("abc"));
        assert_eq!(token(Some("bearer abc"), "/").as_deref(), Some("abc"));
        assert_eq!(token(Some("Basic abc"), "/x?a=b&token=d%2Bf").as_deref(), Some("d+f"));
        assert_eq!(token(None, "/?tokens=x"), None);
        assert_eq!(token(None, "/?token="), None);
        assert_eq!(token(Some("Bearer a b"), "/"), None);
    }
}
