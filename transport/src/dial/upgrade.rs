//! The opening handshake of a WebSocket, and what it can fail by.

use super::{Cause, REFUSED_HEADER, VERSIONS_HEADER, refused_certificate};
use crate::{
    received::Counted,
    websocket::{self, BoxedIo, Framing},
};
use converge_proto::{
    RelayUrl,
    rendezvous::{Token, messages::Line},
    version::ProtocolVersion,
};
use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, LOCATION, SEC_WEBSOCKET_PROTOCOL},
};
use std::io;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, client::IntoClientRequest, error::ProtocolError, handshake::client::Response},
};

/// Opens a WebSocket at `path` on a connection that leads to the relay; with the relay's answer.
pub(super) async fn open(
    relay: &RelayUrl,
    path: &str,
    framing: Framing,
    token: Option<&Token>,
    io: BoxedIo,
) -> Result<(WebSocketStream<Counted>, Response), tungstenite::Error> {
    let mut request = relay.with_scheme(relay.websocket_scheme(), path).into_client_request()?;
    if framing == Framing::Converge {
        let offered = HeaderValue::from_static(ProtocolVersion::NEWEST.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
    }
    if let Some(token) = token {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.secret()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let io = Counted::new(io);
    tokio_tungstenite::client_async_with_config(request, io, Some(websocket::config())).await
}

/// Why there is no WebSocket.
pub(super) fn failure(error: tungstenite::Error, framing: Framing) -> Cause {
    match error {
        // To our own clients a relay says so in a frame.
        tungstenite::Error::Http(response)
            if framing == Framing::Raw && response.status() == StatusCode::NOT_FOUND =>
        {
            Cause::NoSuchId
        }
        tungstenite::Error::Http(response)
            if framing == Framing::Raw
                && matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
        {
            Cause::NotAdmitted(response.status())
        }
        tungstenite::Error::Http(response) => {
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            match header(VERSIONS_HEADER) {
                Some(versions) => Cause::Version { relay_speaks: Some(versions.chars().take(100).collect()) },
                None if header(REFUSED_HEADER).is_some() => {
                    Cause::Refused(Line::new(header(REFUSED_HEADER).unwrap_or_default()))
                }
                None if response.status().is_redirection() => {
                    let host = header(LOCATION.as_str()).and_then(redirected_to);
                    Cause::Redirected { status: response.status(), host }
                }
                None => Cause::NotARelay(response.status()),
            }
        }
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            Cause::NotARelay(StatusCode::SWITCHING_PROTOCOLS)
        }
        tungstenite::Error::Io(error) => match refusal(&error) {
            Some(why) => Cause::CertificateRefused(why),
            None => Cause::other(&error),
        },
        // Another protocol than HTTP, or an end in the middle of it.
        tungstenite::Error::Protocol(error) => Cause::Other(format!("the server is not a relay: {error}")),
        other => Cause::other(&other),
    }
}

/// In TLS 1.3 the relay looks at our certificate when the handshake is over for us, so its alert comes here.
fn refusal(error: &io::Error) -> Option<&'static str> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => refused_certificate(*alert),
        _ => None,
    }
}

/// The host of a `Location`, which has one unless it is relative.
fn redirected_to(location: &str) -> Option<String> {
    let url = url::Url::parse(location).ok()?;
    url.host_str().map(|host| host.chars().take(100).collect())
}
