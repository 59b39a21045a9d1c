//! Sessions: who is let through to whom, and what happens to the bytes.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use bytes::Bytes;
use common::{
    By, TestRelay, a_relay,
    agent::{TestAgent, public},
    assert_same,
    client::{Answer, TestSession, read_all, read_some, send_all, send_some},
    cut, noise, soon,
};
use converge_proto::rendezvous::{Connect, Message, RefusalCode, SessionKind};
use converge_relay::limits::MAX_SESSIONS_PER_AGENT;
use converge_transport::{CloseCode, SendHalf, Stream, StreamError, quic::MAX_STREAMS_TO_RELAY};
use std::time::Duration;

const MIB: usize = 1024 * 1024;

on_each_carrier! {
    both_ends_hear_who_the_other_is,
    bytes_are_exact_both_ways,
    lookup_finds_the_host_key,
    unknown_id_is_refused,
    client_waits_for_an_agent_that_is_not_there_yet,
    wait_that_is_over_is_refused,
    unknown_kind_of_session_is_refused,
    end_of_one_direction_passes_through_while_the_other_goes_on,
    nothing_is_lost_when_the_agent_finishes_and_leaves_at_once,
    nothing_is_lost_when_the_client_finishes_first,
    uploading_client_is_not_left_waiting_by_an_agent_that_left,
    agent_hears_that_a_client_has_vanished,
    client_hears_that_the_agent_has_given_the_session_up,
    client_hears_that_the_agents_link_is_gone_and_others_go_on,
    stalled_client_stops_only_its_own_session,
    agent_that_takes_no_session_harms_nobody_else,
    one_session_more_than_allowed_is_refused,
}

/// A session at both ends.
async fn session(relay: &TestRelay, agent: &TestAgent, by: By) -> (TestSession, Stream) {
    let session = relay.connect(agent.id(), by).await.unwrap();
    (session, agent.next_session().await.1)
}

/// Bytes get through in both directions.
async fn works(client: &mut Stream, agent: &mut Stream) {
    send_some(client, b"ping").await;
    assert_eq!(read_some(agent, 4).await, b"ping");
    send_some(agent, b"pong").await;
    assert_eq!(read_some(client, 4).await, b"pong");
}

async fn write_until_refused(send: &mut SendHalf) -> StreamError {
    let chunk = Bytes::from(vec![7; 32 * 1024]);
    loop {
        if let Err(error) = send.write_chunk(chunk.clone()).await {
            return error;
        }
    }
}

async fn both_ends_hear_who_the_other_is(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).with_key(5).register().await;
    let session = relay.connect("build", by).await.unwrap();
    assert_eq!(session.connected.host_key, public(5));
    assert_eq!(session.connected.agent.software.as_str(), "test-agent");
    let (client, _stream) = agent.next_session().await;
    assert_eq!(client.software.as_str(), "test-client");
    assert!(client.address.unwrap().as_str().starts_with("127.0.0.1:"));
    relay.stop().await;
}

async fn bytes_are_exact_both_ways(by: By) {
    exact_both_ways(by, by).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carriers_of_client_and_agent_need_not_be_the_same() {
    exact_both_ways(By::Quic, By::WebSocket).await;
    exact_both_ways(By::WebSocket, By::Quic).await;
    exact_both_ways(By::Cleartext, By::Cleartext).await;
}

async fn exact_both_ways(client_by: By, agent_by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(agent_by).register().await;
    let client = relay.connect("build", client_by).await.unwrap();
    let (_, stream) = agent.next_session().await;
    let (up, down) = (noise(1, 5 * MIB), noise(2, 4 * MIB));
    let talk = |mut stream: Stream, say: Bytes, hear: Bytes| {
        tokio::spawn(async move {
            let Stream { recv, send } = &mut stream;
            let saying = async {
                send.write_chunk(say).await.unwrap();
                send.finish().await.unwrap();
            };
            let hearing = async {
                let mut all = Vec::new();
                while let Some(chunk) = recv.read_chunk().await.unwrap() {
                    all.extend_from_slice(&chunk);
                }
                assert_same(&all, &hear);
            };
            tokio::join!(saying, hearing);
            stream.close().await;
        })
    };
    let talking = talk(client.stream, up.clone(), down.clone());
    let answering = talk(stream, down, up);
    soon("both directions", async { tokio::try_join!(talking, answering) }).await.unwrap();
    relay.drain();
    assert_eq!(relay.stopped().await, converge_relay::Stopped::Clean);
}

async fn lookup_finds_the_host_key(by: By) {
    let relay = a_relay().start();
    let _agent = relay.an_agent(by).with_key(3).register().await;
    let mut asked = relay.a_client_of("build", by).await.ask_for_the_key().await;
    let Answer::Found(found) = asked.answer().await else { panic!("not found") };
    assert_eq!((found.host_key, found.agent.software.as_str()), (public(3), "test-agent"));
    // A WebSocket ends with the stream; a link that can have more streams stays.
    let after = soon("the end", asked.stream.recv.read_chunk()).await;
    assert_eq!(after, Ok(None));
    relay.stop().await;
}

async fn unknown_id_is_refused(by: By) {
    let relay = a_relay().start();
    let refused = relay.connect("nobody", by).await.err().unwrap();
    let expected = (RefusalCode::NO_SUCH_ID, "no agent has the ID nobody");
    assert_eq!((refused.code, refused.text.as_str()), expected);
    let refused = relay.a_client_of("nobody", by).await.ask_for_the_key().await.refusal().await;
    assert_eq!((refused.code, refused.text.as_str()), expected);
    relay.stop().await;
}

async fn client_waits_for_an_agent_that_is_not_there_yet(by: By) {
    let relay = a_relay().start();
    let client = relay.a_client_of("build", by).await;
    let mut asked = client.ask_to_connect(Duration::from_mins(1)).await;
    let Answer::Waiting(waiting) = asked.answer().await else { panic!("not waiting") };
    assert!(waiting.left_ms > 30_000 && waiting.left_ms <= 60_000, "{waiting:?}");

    let other = relay.an_agent(by).with_key(2).wanting("other").register().await;
    let agent = relay.an_agent(by).register().await;
    let Answer::Connected(connected) = asked.answer().await else { panic!("not connected") };
    assert_eq!(connected.host_key, public(1));
    let mut session = asked.into_session(connected);
    works(&mut session.stream, &mut agent.next_session().await.1).await;
    drop(other);
    relay.stop().await;
}

async fn wait_that_is_over_is_refused(by: By) {
    let relay = a_relay().start();
    let client = relay.a_client_of("build", by).await;
    let mut asked = client.ask_to_connect(Duration::from_millis(1)).await;
    loop {
        match asked.answer().await {
            Answer::Waiting(_) => {}
            Answer::Refused(refused) => break assert_eq!(refused.code, RefusalCode::NO_SUCH_ID),
            other => panic!("{other:?}"),
        }
    }
    relay.stop().await;
}

async fn unknown_kind_of_session_is_refused(by: By) {
    let relay = a_relay().start();
    let _agent = relay.an_agent(by).register().await;
    let client = relay.a_client_of("build", by).await;
    let connect = Connect { kind: SessionKind::Other(9), ..client.raw_connect(Duration::ZERO) };
    let refused = client.say(&connect.to_frame().to_bytes()).await.refusal().await;
    assert_eq!(refused.code, RefusalCode::UNSUPPORTED);
    assert!(refused.text.as_str().contains("kind 9"), "{}", refused.text);
    relay.stop().await;
}

async fn end_of_one_direction_passes_through_while_the_other_goes_on(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    // The client is done first, then the agent.
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    send_all(&mut client.stream, Bytes::from_static(b"question")).await;
    assert_eq!(read_all(&mut stream).await.unwrap(), b"question");
    let answer = noise(3, MIB);
    let ((), heard) = tokio::join!(send_all(&mut stream, answer.clone()), read_all(&mut client.stream));
    assert_same(&heard.unwrap(), &answer);

    // The other way round.
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    send_all(&mut stream, Bytes::from_static(b"greeting")).await;
    assert_eq!(read_all(&mut client.stream).await.unwrap(), b"greeting");
    let ((), heard) = tokio::join!(send_all(&mut client.stream, answer.clone()), read_all(&mut stream));
    assert_same(&heard.unwrap(), &answer);
    relay.stop().await;
}

async fn nothing_is_lost_when_the_agent_finishes_and_leaves_at_once(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    let sent = noise(4, 5 * MIB);
    let chunk = sent.clone();
    // Said by the client, and never read.
    send_some(&mut client.stream, b"many bytes that the agent does not care for").await;
    assert_eq!(read_some(&mut stream, 4).await, b"many");
    let leaving = tokio::spawn(async move {
        stream.send.write_chunk(chunk).await.unwrap();
        stream.send.finish().await.unwrap();
    });
    assert_same(&read_all(&mut client.stream).await.unwrap(), &sent);
    soon("the agent", leaving).await.unwrap();
    relay.stop().await;
}

async fn nothing_is_lost_when_the_client_finishes_first(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    let sent = noise(5, 5 * MIB);
    let chunk = sent.clone();
    let client = tokio::spawn(async move {
        send_all(&mut client.stream, chunk).await;
        let heard = read_all(&mut client.stream).await.unwrap();
        client.stream.close().await;
        heard
    });
    assert_same(&read_all(&mut stream).await.unwrap(), &sent);
    send_all(&mut stream, Bytes::from_static(b"thanks")).await;
    drop(stream);
    assert_eq!(soon("the client", client).await.unwrap(), b"thanks");
    relay.stop().await;
}

async fn uploading_client_is_not_left_waiting_by_an_agent_that_left(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (client, mut stream) = session(&relay, &agent, by).await;
    let Stream { mut recv, mut send } = client.stream;
    let uploading = tokio::spawn(async move { write_until_refused(&mut send).await });
    send_all(&mut stream, Bytes::from_static(b"no more")).await;
    drop(stream);
    let heard = soon("the last words", recv.read_chunk()).await.unwrap().unwrap();
    assert_eq!(&heard[..], b"no more");
    soon("the end of the upload", uploading).await.unwrap();
    // And the session is over for the relay as well.
    relay.drain();
    assert_eq!(relay.stopped().await, converge_relay::Stopped::Clean);
}

async fn agent_hears_that_a_client_has_vanished(by: By) {
    let relay = a_relay().start();
    let mut agent = relay.an_agent(by).register().await;
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    works(&mut client.stream, &mut stream).await;
    client.link.close(CloseCode::DONE, "");
    drop(client);
    cut(soon("the end of the session", stream.recv.read_chunk()).await);
    agent.ping().await;
    relay.stop().await;
}

async fn client_hears_that_the_agent_has_given_the_session_up(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    works(&mut client.stream, &mut stream).await;
    stream.reset(RefusalCode::LIMIT).await;
    let error = cut(soon("the end of the session", client.stream.recv.read_chunk()).await);
    if by == By::Quic {
        assert_eq!(error, StreamError::Reset(RefusalCode::AGENT_LOST));
    } else {
        let words = "the session was cut: the stream was reset: limit";
        assert!(error.to_string().contains(words), "{error}");
    }
    relay.stop().await;
}

async fn client_hears_that_the_agents_link_is_gone_and_others_go_on(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let other = relay.an_agent(by).with_key(2).wanting("other").register().await;
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    let (mut half_closed, mut half_closed_stream) = session(&relay, &agent, by).await;
    let (mut others_client, mut others_stream) = session(&relay, &other, by).await;
    works(&mut client.stream, &mut stream).await;
    send_all(&mut half_closed.stream, Bytes::new()).await;
    assert_eq!(read_all(&mut half_closed_stream).await.unwrap(), b"");

    agent.link.close(CloseCode::DONE, "");
    cut(soon("the end of the session", client.stream.recv.read_chunk()).await);
    // A truncated answer is no whole answer.
    cut(soon("the end of the session", half_closed.stream.recv.read_chunk()).await);
    works(&mut others_client.stream, &mut others_stream).await;
    let refused = relay.connect("build", by).await.err().unwrap();
    assert!(matches!(refused.code, RefusalCode::NO_SUCH_ID | RefusalCode::AGENT_LOST), "{refused:?}");

    let back = relay.an_agent(by).register().await;
    let (mut client, mut stream) = session(&relay, &back, by).await;
    works(&mut client.stream, &mut stream).await;
    relay.stop().await;
}

async fn stalled_client_stops_only_its_own_session(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    let (mut stalled, mut stalled_stream) = session(&relay, &agent, by).await;
    let (mut client, mut stream) = session(&relay, &agent, by).await;
    let all = noise(6, 64 * MIB);
    let chunk = all.clone();
    let stalling = tokio::spawn(async move {
        stalled_stream.send.write_chunk(chunk).await.unwrap();
        stalled_stream.send.finish().await.unwrap();
        stalled_stream
    });

    let (down, up) = (noise(7, 20 * MIB), noise(8, 5 * MIB));
    let ((), heard) = tokio::join!(send_all(&mut stream, down.clone()), read_all(&mut client.stream));
    assert_same(&heard.unwrap(), &down);
    let ((), heard) = tokio::join!(send_all(&mut client.stream, up.clone()), read_all(&mut stream));
    assert_same(&heard.unwrap(), &up);
    assert!(!stalling.is_finished(), "64 MiB are more than all windows on the way together");

    assert_same(&read_all(&mut stalled.stream).await.unwrap(), &all);
    soon("the stalled agent's stream", stalling).await.unwrap();
    relay.stop().await;
}

async fn agent_that_takes_no_session_harms_nobody_else(by: By) {
    let relay = a_relay().start();
    let lazy = relay.an_agent(by).register().await;
    let other = relay.an_agent(by).with_key(2).wanting("other").register().await;
    let mut waiting = relay.connect(lazy.id(), by).await.unwrap();
    let unread = noise(9, 64 * MIB);
    let pushing = tokio::spawn(async move { waiting.stream.send.write_chunk(unread).await });

    let (mut client, mut stream) = session(&relay, &other, by).await;
    let down = noise(10, 5 * MIB);
    let ((), heard) = tokio::join!(send_all(&mut stream, down.clone()), read_all(&mut client.stream));
    assert_same(&heard.unwrap(), &down);
    assert!(!pushing.is_finished(), "64 MiB are more than all windows on the way together");
    relay.stop().await;
    let _ = soon("the end of the session", pushing).await;
}

async fn one_session_more_than_allowed_is_refused(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    // A QUIC link carries several sessions of a client, a WebSocket one only.
    let mut client = relay.a_client_of("build", By::Quic).await;
    let mut sessions = Vec::new();
    for number in 0..MAX_SESSIONS_PER_AGENT {
        if number % MAX_STREAMS_TO_RELAY == 0 {
            client = relay.a_client_of("build", By::Quic).await;
        }
        let session = client.connect().await.unwrap();
        let (_, mut stream) = agent.next_session().await;
        send_some(&mut stream, b"SSH-").await;
        sessions.push((session, stream));
    }
    let client = relay.a_client_of("build", by).await;
    let refused = client.connect().await.err().unwrap();
    assert_eq!(refused.code, RefusalCode::LIMIT);
    assert_eq!(refused.text.as_str(), "the agent has as many sessions as it may have; end one and try again");

    // One that ends makes room.
    let (mut session, stream) = sessions.pop().unwrap();
    stream.close().await;
    assert_eq!(read_all(&mut session.stream).await.unwrap(), b"SSH-");
    session.stream.close().await;
    let mut again = loop {
        match relay.connect("build", by).await {
            Ok(session) => break session,
            Err(refused) => assert_eq!(refused.code, RefusalCode::LIMIT),
        }
    };
    let (_, mut stream) = agent.next_session().await;
    works(&mut again.stream, &mut stream).await;
    relay.stop().await;
}
