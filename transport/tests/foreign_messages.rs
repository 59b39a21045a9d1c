//! What foreign WebSocket tools may send, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{Acceptor, assert_same, read_all, soon};
use converge_transport::{StreamError, websocket::Framing};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

/// A WebSocket as any program opens one, and our end of it.
async fn foreign_tool() -> (WebSocketStream<TcpStream>, converge_transport::Stream) {
    let acceptor = Acceptor::cleartext().await;
    let request = format!("ws://{}/client/build", acceptor.address()).into_client_request().unwrap();
    let opening = async {
        let tcp = TcpStream::connect(acceptor.address()).await.unwrap();
        tokio_tungstenite::client_async(request, tcp).await.unwrap().0
    };
    soon("a WebSocket", async { tokio::join!(opening, acceptor.clients_stream(Framing::Raw)) }).await
}

#[tokio::test]
async fn text_message_is_an_error_of_its_own() {
    let (mut tool, mut stream) = foreign_tool().await;
    tool.send(Message::text("SSH-2.0-x")).await.unwrap();
    assert_eq!(soon("the error", stream.recv.read_chunk()).await, Err(StreamError::TextMessage));
}

#[tokio::test]
async fn text_message_of_bytes_that_are_no_text_is_the_same_error() {
    let (mut tool, mut stream) = foreign_tool().await;
    let bytes = Frame::message(vec![0xff, 0xfe, 0x80], OpCode::Data(Data::Text), true);
    tool.send(Message::Frame(bytes)).await.unwrap();
    assert_eq!(soon("the error", stream.recv.read_chunk()).await, Err(StreamError::TextMessage));
}

#[tokio::test]
async fn empty_and_control_messages_are_no_session_bytes() {
    let (mut tool, mut stream) = foreign_tool().await;
    for message in [Message::Binary("a".into()), Message::Binary("".into()), Message::Ping("p".into())] {
        tool.send(message).await.unwrap();
    }
    tool.send(Message::Binary("b".into())).await.unwrap();
    tool.close(None).await.unwrap();
    assert_same(&read_all(&mut stream).await.unwrap(), b"ab");
}

#[tokio::test]
async fn end_of_a_raw_session_is_a_normal_close() {
    let (mut tool, mut stream) = foreign_tool().await;
    stream.send.write_chunk("bye".into()).await.unwrap();
    stream.send.finish().await.unwrap();
    let closing = tokio::spawn(stream.close());
    assert_eq!(soon("bytes", tool.next()).await.unwrap().unwrap(), Message::Binary("bye".into()));
    let Message::Close(Some(frame)) = soon("the close", tool.next()).await.unwrap().unwrap() else {
        panic!("not a close frame")
    };
    assert_eq!(u16::from(frame.code), 1000);
    while let Some(Ok(_)) = soon("the end", tool.next()).await {}
    soon("the closing", closing).await.unwrap();
}
