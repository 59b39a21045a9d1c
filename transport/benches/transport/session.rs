//! A session over one stream, from application to application.

use crate::{
    common::{Ends, Wire},
    harness::Work,
    wire::{BULK, CHUNK, ROUND_TRIPS, runtime},
};
use converge_proto::session::{Attach, Secret, SessionId};
use converge_transport::{Attachment, SessionIo, SessionLink, Stream};
use tokio::{io::AsyncWriteExt, runtime::Runtime};

pub(crate) fn bulk() -> Work {
    between(|runtime, agent, client| {
        runtime.block_on(async {
            let sending = async {
                for _ in 0..BULK / CHUNK.len() {
                    agent.write_all(&CHUNK).await.unwrap();
                }
            };
            tokio::join!(sending, receive(client, BULK));
        });
    })
}

pub(crate) fn keys() -> Work {
    between(|runtime, agent, client| {
        runtime.block_on(async {
            for _ in 0..ROUND_TRIPS {
                client.write_all(b"k").await.unwrap();
                receive(agent, 1).await;
                agent.write_all(b"k").await.unwrap();
                receive(client, 1).await;
            }
        });
    })
}

async fn receive(from: &SessionIo, mut bytes: usize) {
    while bytes > 0 {
        bytes -= from.read_chunk().await.unwrap().unwrap().len();
    }
}

fn between(work: fn(&Runtime, &mut SessionIo, &mut SessionIo)) -> Work {
    let runtime = runtime();
    let ends = runtime.block_on(Ends::of(Wire::ClientsWebSocket));
    let (near, far) = runtime.block_on(ends.stream());
    let (mut client_io, client) = SessionLink::client();
    let (mut agent_io, agent) = SessionLink::agent();
    let (received, limit) = client.offsets();
    let (session, secret) = (SessionId([1; 16]), Secret([2; 16]));
    let attach = Attach { session, secret, attempt: 0, resume: false, received, limit, first: None };
    let (attached, agents) = agent.accept(&attach).unwrap();
    let clients = client.attach(&attached).unwrap();
    drive(&runtime, clients, near);
    drive(&runtime, agents, far);
    Box::new(move || {
        let _link = &ends;
        work(&runtime, &mut agent_io, &mut client_io);
    })
}

fn drive(runtime: &Runtime, attachment: Attachment, mut stream: Stream) {
    runtime.spawn(async move { attachment.drive(&mut stream).await });
}
