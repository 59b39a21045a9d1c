//! What browsers, health checks and foreign WebSocket tools see.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By, TestRelay, a_relay, assert_same,
    client::{read_all, read_some, send_all, send_some},
    noise, soon,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue},
};

on_each_carrier! {
    raw_session_is_bytes_and_nothing_else,
    end_of_a_raw_session_is_a_normal_close,
    nothing_is_lost_when_a_raw_client_closes_while_the_agent_still_talks,
    text_message_ends_the_session_with_words,
}

const MIB: usize = 1024 * 1024;

/// The whole answer to a request.
async fn get(relay: &TestRelay, path: &str) -> String {
    let mut connection = TcpStream::connect(relay.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", connection.read_to_string(&mut answer)).await.unwrap();
    answer
}

type Tool = WebSocketStream<TcpStream>;

/// Opens a WebSocket as any program does.
async fn open(
    relay: &TestRelay,
    path: &str,
    subprotocol: Option<&'static str>,
) -> Result<(Tool, Option<HeaderValue>), tungstenite::Error> {
    let mut request = format!("ws://{}{path}", relay.http).into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        let value = HeaderValue::from_static(subprotocol);
        request.headers_mut().insert("sec-websocket-protocol", value);
    }
    let tcp = TcpStream::connect(relay.http).await.unwrap();
    let (tool, response) =
        soon("the opening handshake", tokio_tungstenite::client_async(request, tcp)).await?;
    Ok((tool, response.headers().get("sec-websocket-protocol").cloned()))
}

/// Status, words and the versions header of a refused opening handshake.
async fn refused(
    relay: &TestRelay,
    path: &str,
    subprotocol: Option<&'static str>,
) -> (u16, String, Option<String>) {
    match open(relay, path, subprotocol).await {
        Err(tungstenite::Error::Http(response)) => {
            let versions = response.headers().get("converge-versions");
            let versions = versions.map(|versions| versions.to_str().unwrap().to_owned());
            let words = String::from_utf8(response.body().clone().unwrap_or_default()).unwrap();
            (response.status().as_u16(), words, versions)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[tokio::test]
async fn pages_tell_what_to_copy() {
    let relay = a_relay().start();
    let home = get(&relay, "/").await;
    assert!(home.starts_with("HTTP/1.1 200 OK\r\n"), "{home}");
    assert!(home.contains(&relay.url.to_string()), "{home}");

    let health = get(&relay, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nok\n"), "{health}");

    let page = get(&relay, "/client/build").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("No job has this ID"), "{page}");
    let _agent = relay.an_agent(By::Quic).register().await;
    let page = get(&relay, "/client/build").await;
    assert!(page.contains("This job is waiting for you"), "{page}");
    assert!(page.contains(&format!("wss://{}/client/build", relay.listen)), "{page}");

    assert!(get(&relay, "/nothing").await.starts_with("HTTP/1.1 404 "));
    let agents = get(&relay, "/agent").await;
    assert!(agents.starts_with("HTTP/1.1 426 ") && agents.contains("open a WebSocket"), "{agents}");
    relay.stop().await;
}

#[tokio::test]
async fn wrong_id_is_a_bad_request_in_words() {
    let relay = a_relay().start();
    let page = get(&relay, "/client/Build").await;
    assert!(page.starts_with("HTTP/1.1 400 "), "{page}");
    let words = "an ID is made of a-z, 0-9 and '-', not of 'B'\n";
    assert!(page.ends_with(words), "{page}");
    assert_eq!(refused(&relay, "/client/Build", None).await, (400, words.to_owned(), None));
    relay.stop().await;
}

#[tokio::test]
async fn unknown_id_of_a_raw_session_is_not_found_in_words() {
    let relay = a_relay().start();
    let expected = (404, "no agent has the ID nobody\n".to_owned(), None);
    assert_eq!(refused(&relay, "/client/nobody", None).await, expected);
    relay.stop().await;
}

#[tokio::test]
async fn unknown_version_is_told_the_known_ones() {
    let relay = a_relay().start();
    let _agent = relay.an_agent(By::Quic).register().await;
    for path in ["/client/build", "/agent"] {
        let (status, words, versions) = refused(&relay, path, Some("converge.9")).await;
        assert_eq!((status, versions.as_deref()), (400, Some("converge.1")));
        assert_eq!(words, "this relay speaks converge.1; upgrade the older of the two\n");
    }
    relay.stop().await;
}

#[tokio::test]
async fn foreign_subprotocol_is_accepted_as_it_was_offered() {
    let relay = a_relay().start();
    let _agent = relay.an_agent(By::Quic).register().await;
    let (_, none) = open(&relay, "/client/build", None).await.unwrap();
    assert_eq!(none, None);
    let (_, chosen) = open(&relay, "/client/build", Some("binary, ssh")).await.unwrap();
    assert_eq!(chosen, Some(HeaderValue::from_static("binary")));
    relay.stop().await;
}

/// Binary messages until the close frame.
async fn hear_all(tool: &mut Tool) -> (Vec<u8>, u16, String) {
    let mut all = Vec::new();
    loop {
        match soon("a message", tool.next()).await.unwrap().unwrap() {
            Message::Binary(bytes) => all.extend_from_slice(&bytes),
            Message::Close(Some(frame)) => return (all, frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

async fn raw_session_is_bytes_and_nothing_else(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut tool, _) = open(&relay, "/client/build", None).await.unwrap();
    let (client, mut stream) = agent.next_session().await;
    assert_eq!(client.software.as_str(), "raw WebSocket");
    let (up, down) = (noise(1, 5 * MIB), noise(2, 5 * MIB));
    // Foreign tools send messages of any size.
    let mut left = up.clone();
    for size in [1, 100, 70_000, 1_000_000].into_iter().cycle() {
        let message = left.split_to(size.min(left.len()));
        if message.is_empty() {
            break;
        }
        tool.feed(Message::Binary(message)).await.unwrap();
        if left.len() < 3 * MIB {
            tool.flush().await.unwrap();
            let so_far = up.len() - left.len();
            assert_same(&read_some(&mut stream, so_far).await, &up[..so_far]);
            break;
        }
    }
    tool.send(Message::Binary("last".into())).await.unwrap();
    assert_eq!(read_some(&mut stream, 4).await, b"last");
    let ((), (heard, ..)) = tokio::join!(send_all(&mut stream, down.clone()), hear_all(&mut tool));
    assert_same(&heard, &down);
    relay.stop().await;
}

async fn end_of_a_raw_session_is_a_normal_close(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut tool, _) = open(&relay, "/client/build", None).await.unwrap();
    let (_, mut stream) = agent.next_session().await;
    send_all(&mut stream, "bye".into()).await;
    drop(stream);
    assert_eq!(hear_all(&mut tool).await, (b"bye".to_vec(), 1000, String::new()));

    let (mut tool, _) = open(&relay, "/client/build", None).await.unwrap();
    let (_, mut stream) = agent.next_session().await;
    tool.send(Message::Binary("bye".into())).await.unwrap();
    tool.close(None).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"bye");
    relay.stop().await;
}

async fn nothing_is_lost_when_a_raw_client_closes_while_the_agent_still_talks(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut tool, _) = open(&relay, "/client/build", None).await.unwrap();
    let (_, stream) = agent.next_session().await;
    let converge_transport::Stream { mut recv, mut send } = stream;
    let talking =
        tokio::spawn(async move { while send.write_chunk(vec![1; 10_000].into()).await.is_ok() {} });
    let sent = noise(3, 5 * MIB);
    let chunk = sent.clone();
    let tool = tokio::spawn(async move {
        for part in chunk.chunks(100_000) {
            tool.send(Message::Binary(part.to_vec().into())).await.unwrap();
        }
        tool.close(None).await.unwrap();
        while let Some(Ok(_)) = tool.next().await {}
    });
    let mut heard = Vec::new();
    while let Some(chunk) = soon("more bytes", recv.read_chunk()).await.unwrap() {
        heard.extend_from_slice(&chunk);
    }
    assert_same(&heard, &sent);
    drop(recv);
    soon("the talking agent", talking).await.unwrap();
    soon("the tool", tool).await.unwrap();
    relay.stop().await;
}

async fn text_message_ends_the_session_with_words(by: By) {
    let relay = a_relay().start();
    let mut agent = relay.an_agent(by).register().await;
    for text in [Message::text("SSH-2.0-x"), not_even_text()] {
        let (mut tool, _) = open(&relay, "/client/build", None).await.unwrap();
        let (_, mut stream) = agent.next_session().await;
        send_some(&mut stream, b"SSH-").await;
        assert_eq!(soon("bytes", tool.next()).await.unwrap().unwrap(), Message::Binary("SSH-".into()));
        tool.send(text).await.unwrap();
        let (_, code, words) = hear_all(&mut tool).await;
        assert_eq!(code, 4001);
        let expected = "a WebSocket text message came; session bytes must be sent as binary messages";
        assert!(words.starts_with(expected), "{words}");
        assert!(soon("the end of the session", stream.recv.read_chunk()).await.is_err());
        agent.ping().await;
    }
    relay.stop().await;
}

/// SSH bytes in a text message, as a tool sends them that does not know better.
fn not_even_text() -> Message {
    use tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    Message::Frame(Frame::message(vec![0xff, 0xfe, 0x80], OpCode::Data(Data::Text), true))
}
