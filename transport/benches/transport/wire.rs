//! What moves over streams, and on what it runs.

use bytes::Bytes;
use converge_transport::{RecvHalf, SendHalf, Stream};
use tokio::runtime::{Builder, Runtime};

pub(crate) const BULK: usize = 1024 * 1024;
pub(crate) const ROUND_TRIPS: usize = 100;
/// A chunk as the programs read and write them.
pub(crate) static CHUNK: [u8; 32 * 1024] = [7; 32 * 1024];

/// One thread for everything, so that all happens in the same order each time.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// One end sends [`BULK`] bytes to the other.
pub(crate) async fn bulk(from: &mut SendHalf, to: &mut RecvHalf) {
    let sending = async {
        for _ in 0..BULK / CHUNK.len() {
            from.write_chunk(Bytes::from_static(&CHUNK)).await.unwrap();
        }
        from.flush().await.unwrap();
    };
    tokio::join!(sending, receive(to, BULK));
}

/// Keys that are typed and echoed.
pub(crate) async fn keys(near: &mut Stream, far: &mut Stream) {
    for _ in 0..ROUND_TRIPS {
        key(&mut near.send, &mut far.recv).await;
        key(&mut far.send, &mut near.recv).await;
    }
}

async fn key(from: &mut SendHalf, to: &mut RecvHalf) {
    from.write_chunk(Bytes::from_static(b"k")).await.unwrap();
    from.flush().await.unwrap();
    receive(to, 1).await;
}

async fn receive(from: &mut RecvHalf, mut bytes: usize) {
    while bytes > 0 {
        bytes -= from.read_chunk().await.unwrap().unwrap().len();
    }
}
