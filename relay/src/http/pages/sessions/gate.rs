//! Who may see the page of sessions.

use crate::{
    access::{Credentials, Refusal, Scope},
    http::{Connection, pages::SessionsPage},
    shared::Shared,
};
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use converge_proto::rendezvous::Token;
use data_encoding::BASE64;

/// What a browser asks its person for.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"Converge sessions\", charset=\"UTF-8\"");

/// Whether a request may see sessions.
///
/// # Errors
/// The answer when it may not.
pub(super) async fn check(
    shared: &Shared,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<(), Box<Response>> {
    match shared.pages.settings.sessions_page {
        SessionsPage::Public => Ok(()),
        SessionsPage::Off => {
            let words = "this relay does not show its sessions\n";
            Err(Box::new((StatusCode::NOT_FOUND, words).into_response()))
        }
        SessionsPage::Token => {
            let (credentials, peer) = (Credentials::new(token(headers)), connection.peer.address.ip());
            let checked = shared.access.check(Scope::SessionsPage, &credentials, peer).await;
            checked.map(|_| ()).map_err(|refusal| Box::new(refused(&refusal)))
        }
    }
}

fn refused(refusal: &Refusal) -> Response {
    let words = format!("{refusal}. Reload, and give the token as the password; any user name will do.\n");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, CHALLENGE)], words).into_response()
}

/// `Authorization: Bearer TOKEN`, or the password of Basic (RFC 7617), which is what browsers know how to ask for and to
/// send again, for the live updates too; so there is no form and no cookie.
fn token(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return credentials.parse().ok();
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(credentials.as_bytes()).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    password.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_a_bearer_or_a_password() {
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token(&headers).map(|token| token.secret().to_owned())
        };
        assert_eq!(shown("Bearer abc").as_deref(), Some("abc"));
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text.as_bytes()));
        assert_eq!(shown(&basic("anybody:abc")).as_deref(), Some("abc"));
        assert_eq!(shown(&basic("abc")), None);
        assert_eq!(shown("Basic !"), None);
        assert_eq!(shown("Digest abc"), None);
    }
}
