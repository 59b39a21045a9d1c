//! Requests to an ACME server, over a connection that goes the same way as everything else (proxy, TLS roots).

use bytes::Bytes;
use converge_certs::TrustConfig;
use converge_transport::{
    ProxyChoice,
    dial::web::{self, WebServer},
};
use http::{HeaderValue, Request, Response, Uri, header::HOST, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::{io, pin::Pin, time::Duration};
use tokio_util::task::AbortOnDropHandle;

/// From the first packet to the last byte.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// A chain of certificates is the longest answer.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Asks with a connection for each question: there are a dozen of them every two months.
#[derive(Clone, Debug)]
pub(super) struct DirectClient {
    pub(super) trust: TrustConfig,
    pub(super) proxy: ProxyChoice,
}

impl HttpClient for DirectClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let asking = tokio::time::timeout(TIME_LIMIT, client.ask(request));
            asking.await.unwrap_or_else(|_| Err(other("no answer in time")))
        })
    }
}

impl DirectClient {
    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (server, host) = server(request.uri())?;
        let io = web::connect_trusting(&server, &self.proxy, &self.trust)
            .await
            .map_err(|error| Error::Other(error.into()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
        // How it ends, whoever waits for the answer sees.
        let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let response = sender.send_request(in_origin_form(request, &host)?).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(Error::Other)?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)).into())
    }
}

/// Where a URL leads, and how it names the host.
fn server(uri: &Uri) -> Result<(WebServer, HeaderValue), Error> {
    let no_server = || other("the ACME server names a URL that is not https");
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(no_server)?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(443);
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| no_server())?;
    Ok((WebServer { host, port, tls: true }, value))
}

/// As HTTP/1.1 has it on a direct connection (RFC 9112 section 3.2.1).
fn in_origin_form(
    mut request: Request<BodyWrapper<Bytes>>,
    host: &HeaderValue,
) -> Result<Request<BodyWrapper<Bytes>>, Error> {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = path.parse()?;
    request.headers_mut().insert(HOST, host.clone());
    Ok(request)
}

fn other(text: &'static str) -> Error {
    Error::Other(io::Error::other(text).into())
}

fn broken(error: hyper::Error) -> Error {
    Error::Other(error.into())
}
