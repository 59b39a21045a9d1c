//! A web server that answers every request in the same way, until it is told another one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// With these bytes, and then the end of the connection.
    Bytes(Vec<u8>),
    /// With one byte of a body after the other, for ever.
    Endless,
}

impl Answer {
    /// Status 200 with this text.
    pub(crate) fn text(body: &str) -> Self {
        Self::whole("200 OK", "Content-Type: text/plain; charset=utf-8\r\n", body)
    }

    pub(crate) fn status(status: &str) -> Self {
        Self::whole(status, "", "no such thing")
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::whole("302 Found", &format!("Location: {location}\r\n"), "")
    }

    pub(crate) fn whole(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
        Self::Bytes(format!("{head}{body}").into_bytes())
    }
}

/// Stops when dropped.
pub(crate) struct Web {
    pub(crate) port: u16,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Web {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let answer = Arc::new(Mutex::new(answer));
        let (requests, count) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let state = (answer.clone(), requests.clone(), count.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (answer, requests, count) = state.clone();
                tokio::spawn(async move {
                    let mut stream = stream;
                    let Some(request) = read_head(&mut stream).await else { return };
                    requests.lock().expect("no panic").push(request);
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = answer.lock().expect("no panic").clone();
                    // Whoever asked may have gone.
                    let _ = send(&mut stream, answer).await;
                });
            }
        });
        Self { port, answer, requests, count, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("no panic") = answer;
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Up to the empty line; `None` when the connection ends before.
pub(crate) async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

async fn send(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Bytes(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await?;
            loop {
                stream.write_all(b"#").await?;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }
}
