//! What links and streams promise, on every carrier from one body each.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use bytes::{BufMut, Bytes, BytesMut};
use common::{Ends, Noise, Wire, assert_same, read_all, soon};
use converge_proto::{
    FrameType, VarInt,
    frame::FrameError,
    rendezvous::{Message, Pong, RefusalCode},
};
use converge_transport::{CloseCode, LinkError, SendHalf, Stream, StreamError};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1024 * 1024;

on_each_wire! {
    quic Quic: [
        bytes_arrive_exactly_however_they_are_cut,
        bytes_arrive_exactly_through_tokio_io,
        end_of_one_direction_is_seen_while_the_other_goes_on,
        nothing_is_lost_when_the_writer_closes_at_once,
        nothing_is_lost_when_the_writer_drops_a_finished_stream,
        reset_reaches_the_peer_with_its_code,
        writer_is_not_left_waiting_by_a_peer_that_finished_and_left,
        stalled_reader_stops_only_its_own_stream_and_costs_bounded_memory,
        session_bytes_behind_a_frame_are_left_alone,
        frame_that_announces_too_much_is_refused_before_it_is_there,
        end_inside_a_frame_is_an_error,
        reason_of_a_closed_link_reaches_the_peer,
        streams_of_a_closed_link_fail_and_do_not_end_in_peace,
        what_was_said_before_a_finished_link_arrives,
    ]
    agents_websocket AgentsWebSocket: [
        bytes_arrive_exactly_however_they_are_cut,
        bytes_arrive_exactly_through_tokio_io,
        end_of_one_direction_is_seen_while_the_other_goes_on,
        nothing_is_lost_when_the_writer_closes_at_once,
        nothing_is_lost_when_the_writer_drops_a_finished_stream,
        reset_reaches_the_peer_with_its_code,
        writer_is_not_left_waiting_by_a_peer_that_finished_and_left,
        stalled_reader_stops_only_its_own_stream_and_costs_bounded_memory,
        session_bytes_behind_a_frame_are_left_alone,
        frame_that_announces_too_much_is_refused_before_it_is_there,
        end_inside_a_frame_is_an_error,
        reason_of_a_closed_link_reaches_the_peer,
        streams_of_a_closed_link_fail_and_do_not_end_in_peace,
        what_was_said_before_a_finished_link_arrives,
    ]
    clients_websocket ClientsWebSocket: [
        bytes_arrive_exactly_however_they_are_cut,
        end_of_one_direction_is_seen_while_the_other_goes_on,
        nothing_is_lost_when_the_writer_closes_at_once,
        nothing_is_lost_when_the_writer_drops_a_finished_stream,
        reset_reaches_the_peer_with_its_code,
        writer_is_not_left_waiting_by_a_peer_that_finished_and_left,
        stalled_reader_stops_only_its_own_stream_and_costs_bounded_memory,
        session_bytes_behind_a_frame_are_left_alone,
        frame_that_announces_too_much_is_refused_before_it_is_there,
        end_inside_a_frame_is_an_error,
    ]
}

async fn bytes_arrive_exactly_however_they_are_cut(ends: Ends) {
    let (near, far) = ends.stream().await;
    let (there, back) = (Noise::new(1).bytes(3 * MIB), Noise::new(2).bytes(2 * MIB));
    let talk = |mut stream: Stream, mut said: Bytes, heard: Bytes, seed| {
        tokio::spawn(async move {
            let Stream { recv, send } = &mut stream;
            let mut noise = Noise::new(seed);
            let saying = async {
                while !said.is_empty() {
                    // From single bytes to several messages' worth.
                    let max = [10, 1000, 40_000, 300_000][noise.up_to(4) - 1];
                    let cut = noise.up_to(max).min(said.len());
                    send.write_chunk(said.split_to(cut)).await.unwrap();
                    if noise.up_to(3) == 1 {
                        send.flush().await.unwrap();
                    }
                }
                send.finish().await.unwrap();
            };
            let hearing = async {
                let mut all = Vec::new();
                while let Some(chunk) = recv.read_chunk().await.unwrap() {
                    all.extend_from_slice(&chunk);
                }
                assert_same(&all, &heard);
            };
            tokio::join!(saying, hearing);
        })
    };
    let near = talk(near, there.clone(), back.clone(), 3);
    let far = talk(far, back, there, 4);
    soon("both directions", async { tokio::try_join!(near, far) }).await.unwrap();
}

async fn bytes_arrive_exactly_through_tokio_io(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let sent = Noise::new(5).bytes(3 * MIB);
    let writing = async {
        let mut noise = Noise::new(6);
        let mut left = &sent[..];
        while !left.is_empty() {
            let (now, later) = left.split_at(noise.up_to(200_000).min(left.len()));
            near.send.write_all(now).await.unwrap();
            left = later;
        }
        near.send.shutdown().await.unwrap();
    };
    let reading = async {
        let mut all = Vec::new();
        far.recv.read_to_end(&mut all).await.unwrap();
        assert_same(&all, &sent);
    };
    soon("all of it", async { tokio::join!(writing, reading) }).await;
}

async fn end_of_one_direction_is_seen_while_the_other_goes_on(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    near.send.write_chunk(Bytes::from_static(b"question")).await.unwrap();
    near.send.finish().await.unwrap();
    assert_eq!(read_all(&mut far).await.unwrap(), b"question");
    assert_eq!(far.recv.read_chunk().await, Ok(None), "the end stays the end");

    let answer = Noise::new(7).bytes(MIB);
    let answering = async {
        far.send.write_chunk(answer.clone()).await.unwrap();
        far.send.finish().await.unwrap();
    };
    let ((), heard) = tokio::join!(answering, read_all(&mut near));
    assert_same(&heard.unwrap(), &answer);
}

async fn nothing_is_lost_when_the_writer_closes_at_once(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let sent = Noise::new(8).bytes(5 * MIB);
    let chunk = sent.clone();
    let writing = tokio::spawn(async move {
        near.send.write_chunk(chunk).await.unwrap();
        near.send.finish().await.unwrap();
        near.close().await;
    });
    // Something that the writer never reads must not hurt either.
    far.send.write_chunk(Bytes::from_static(b"unread")).await.unwrap();
    far.send.flush().await.unwrap();
    assert_same(&read_all(&mut far).await.unwrap(), &sent);
    far.send.finish().await.ok();
    far.close().await;
    soon("the writer", writing).await.unwrap();
}

async fn nothing_is_lost_when_the_writer_drops_a_finished_stream(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let sent = Noise::new(9).bytes(5 * MIB);
    let chunk = sent.clone();
    let writing = tokio::spawn(async move {
        near.send.write_chunk(chunk).await.unwrap();
        near.send.finish().await.unwrap();
    });
    assert_same(&read_all(&mut far).await.unwrap(), &sent);
    soon("the writer", writing).await.unwrap();
}

async fn reset_reaches_the_peer_with_its_code(ends: Ends) {
    let (near, mut far) = ends.stream().await;
    near.reset(RefusalCode::LIMIT).await;
    let error = soon("the reset", far.recv.read_chunk()).await.unwrap_err();
    match ends.wire {
        Wire::Quic | Wire::AgentsWebSocket => assert_eq!(error, StreamError::Reset(RefusalCode::LIMIT)),
        Wire::ClientsWebSocket => {
            assert_eq!(error.to_string(), "closed by the other side: a limit is reached (limit)");
        }
    }
    soon("the writer's error", write_until_refused(&mut far.send)).await;
}

async fn writer_is_not_left_waiting_by_a_peer_that_finished_and_left(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let writing = tokio::spawn(async move {
        write_until_refused(&mut near.send).await;
        near
    });
    far.send.write_chunk(Bytes::from_static(b"last words")).await.unwrap();
    far.send.finish().await.unwrap();
    drop(far);
    let mut near = soon("the writer", writing).await.unwrap();
    if ends.wire != Wire::ClientsWebSocket {
        assert_eq!(read_all(&mut near).await.unwrap(), b"last words");
    }
}

async fn write_until_refused(send: &mut SendHalf) -> StreamError {
    let chunk = Bytes::from(vec![7; 32 * 1024]);
    loop {
        if let Err(error) = send.write_chunk(chunk.clone()).await {
            return error;
        }
    }
}

async fn stalled_reader_stops_only_its_own_stream_and_costs_bounded_memory(ends: Ends) {
    let bound = match ends.wire {
        // What the windows allow, one chunk that is being written, and what the multiplexer's queue holds.
        Wire::Quic => 4 * MIB + 64 * 1024,
        Wire::AgentsWebSocket => 256 * 1024 + 2 * 64 * 1024,
        // The kernel's buffers at both ends (tcp_wmem, tcp_rmem), and ours.
        Wire::ClientsWebSocket => 16 * MIB,
    };
    // As a relay makes for each session.
    let _rooms = [ends.far.room(), ends.far.room()];
    let (mut stalled_near, mut stalled_far) = ends.stream().await;
    let second_link;
    let (mut near, mut far) = if ends.wire == Wire::ClientsWebSocket {
        second_link = Ends::of(ends.wire).await;
        second_link.stream().await
    } else {
        ends.stream().await
    };

    let all = Noise::new(10).bytes(24 * MIB);
    let accepted = Arc::new(AtomicUsize::new(0));
    let (mut left, counter) = (all.clone(), accepted.clone());
    let writing = tokio::spawn(async move {
        while !left.is_empty() {
            let chunk = left.split_to(left.len().min(16 * 1024));
            let len = chunk.len();
            stalled_near.send.write_chunk(chunk).await.unwrap();
            counter.fetch_add(len, Ordering::SeqCst);
        }
        stalled_near.send.finish().await.unwrap();
        stalled_near
    });

    let moved = Noise::new(11).bytes(20 * MIB);
    let moving = async {
        near.send.write_chunk(moved.clone()).await.unwrap();
        near.send.finish().await.unwrap();
    };
    let ((), heard) = tokio::join!(moving, read_all(&mut far));
    assert_same(&heard.unwrap(), &moved);

    let accepted = accepted.load(Ordering::SeqCst);
    assert!(accepted > 0 && accepted <= bound, "{accepted} bytes were taken for a reader that does not read");
    assert!(!writing.is_finished());
    assert_same(&read_all(&mut stalled_far).await.unwrap(), &all);
    soon("the writer", writing).await.unwrap();
}

async fn session_bytes_behind_a_frame_are_left_alone(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let frame = Pong { token: 7 }.to_frame();
    let mut together = BytesMut::from(&frame.to_bytes()[..]);
    together.put_slice(b"SSH-2.0-x\r\n");
    near.send.write_chunk(together.freeze()).await.unwrap();
    near.send.finish().await.unwrap();
    assert_eq!(soon("the frame", far.recv.read_frame()).await, Ok(Some(frame)));
    let mut first = [0; 3];
    soon("bytes", far.recv.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"SSH");
    assert_eq!(read_all(&mut far).await.unwrap(), b"-2.0-x\r\n");
}

async fn frame_that_announces_too_much_is_refused_before_it_is_there(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let mut header = BytesMut::new();
    FrameType::PING.0.encode(&mut header);
    VarInt::MAX.encode(&mut header);
    near.send.write_chunk(header.freeze()).await.unwrap();
    near.send.flush().await.unwrap();
    let error = soon("the refusal", far.recv.read_frame()).await;
    let too_long = FrameError::TooLong { frame_type: FrameType::PING, announced_bytes: VarInt::MAX.get() };
    assert_eq!(error, Err(too_long.into()));
}

async fn end_inside_a_frame_is_an_error(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let frame = Pong { token: 7 }.to_frame().to_bytes();
    near.send.write_chunk(frame.slice(..frame.len() - 1)).await.unwrap();
    near.send.finish().await.unwrap();
    assert_eq!(soon("the end", far.recv.read_frame()).await, Err(StreamError::EndInsideFrame));
}

async fn reason_of_a_closed_link_reaches_the_peer(ends: Ends) {
    let other = Ends::of(ends.wire).await;
    for (here, there) in [(ends.near, ends.far), (other.far, other.near)] {
        here.close(CloseCode::REPLACED, "the same agent came again");
        let error = soon("the close", there.closed()).await;
        let words = "closed by the other side: replaced by a newer link of the same agent (the same agent came again)";
        assert_eq!(error.to_string(), words);
        let code = match error {
            LinkError::ClosedByPeer { code, .. } => code,
            other => panic!("{other}"),
        };
        assert_eq!(code, CloseCode::REPLACED);
        assert_eq!(here.closed().await, LinkError::ClosedHere);
        assert!(there.open_stream().await.is_err());
        assert!(there.accept_stream().await.is_err());
    }
}

async fn streams_of_a_closed_link_fail_and_do_not_end_in_peace(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    near.send.write_chunk(Bytes::from_static(b"half a ")).await.unwrap();
    near.send.flush().await.unwrap();
    assert_eq!(soon("bytes", far.recv.read_chunk()).await, Ok(Some(Bytes::from_static(b"half a "))));
    // Half-closed streams fail too.
    far.send.finish().await.unwrap();
    assert_eq!(soon("the end", near.recv.read_chunk()).await, Ok(None));
    ends.near.close(CloseCode::STOPPING, "");
    assert!(soon("the error", far.recv.read_chunk()).await.is_err());
    soon("the writer's error", write_until_refused(&mut near.send)).await;
}

async fn what_was_said_before_a_finished_link_arrives(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    let frame = Pong { token: 9 }.to_frame();
    near.send.write_frame(&frame).await.unwrap();
    near.send.finish().await.unwrap();
    near.close().await;
    ends.near.finish(CloseCode::LIMIT, "one word was enough").await;
    assert_eq!(soon("the frame", far.recv.read_frame()).await, Ok(Some(frame)));
    let error = soon("the close", ends.far.closed()).await;
    assert_eq!(error.to_string(), "closed by the other side: a limit is reached (one word was enough)");
}
