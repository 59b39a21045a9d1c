//! Telling a peer over HTTP that it met a limit.

use crate::limits::{Gate, Refusal};
use axum::response::{IntoResponse, Response};
use converge_transport::dial::REFUSED_HEADER;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// A refused peer has this long to take the explanation, its TLS handshake included.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(3);

/// The answer to a request that met a limit.
pub(crate) fn response(refusal: Refusal) -> Response {
    let headers = [
        (HeaderName::from_static(REFUSED_HEADER), HeaderValue::from_static(refusal.words())),
        (RETRY_AFTER, HeaderValue::from(refusal.retry_after().as_secs())),
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
    ];
    (status(refusal), headers, format!("{}\n", refusal.words())).into_response()
}

fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Body => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::SlowRequest => StatusCode::REQUEST_TIMEOUT,
        refusal if refusal.is_peers_own() => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Ends a connection that was refused before anything was read of it, and says why where there is time for it.
pub(crate) async fn explain(gate: &Gate, stream: TcpStream, tls: Option<TlsAcceptor>, refusal: Refusal) {
    let Some(_permit) = gate.may_explain() else { return };
    let explaining = async {
        match tls {
            Some(tls) => say(tls.accept(stream).await?, refusal).await,
            None => say(stream, refusal).await,
        }
    };
    // It was worth a try.
    let _ = timeout(EXPLANATION_TIMEOUT, explaining).await;
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, refusal: Refusal) -> std::io::Result<()> {
    let (status, words) = (status(refusal), refusal.words());
    let answer = format!(
        "HTTP/1.1 {status}\r\n{REFUSED_HEADER}: {words}\r\nRetry-After: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{words}\n",
        refusal.retry_after().as_secs(),
        words.len() + 1,
    );
    // A peer that speaks HTTP/2 is only cut off: pages alone use it.
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // A socket that is closed with something unread takes the answer with it.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
