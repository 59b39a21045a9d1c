//! A way to a server that can be cut without either end being told.

use super::soon;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Leads from `address` to the server, for as long as it is not cut. What was said meanwhile arrives when it is healed.
pub struct Wire {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    /// How often all connections were ended.
    age: watch::Sender<u64>,
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = soon("a port", TcpListener::bind("127.0.0.1:0")).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let age = watch::Sender::new(0);
        let ages = age.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (is_cut, mut ages) = (is_cut.clone(), ages.clone());
                ages.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(near, server, is_cut) => {}
                        _ = ages.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, age }
    }

    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub fn heal(&self) {
        self.cut.send_replace(false);
    }

    /// The same, but what was said meanwhile is lost with its connection.
    pub fn heal_for_new_connections(&self) {
        self.age.send_modify(|age| *age += 1);
        self.heal();
    }
}

async fn pass(near: TcpStream, server: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    if is_cut.wait_for(|is_cut| !is_cut).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(server).await else { return };
    for stream in [&near, &far] {
        // What is small goes at once, as it would without us.
        stream.set_nodelay(true).unwrap();
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = copy(near_read, far_write, is_cut.clone()) => {}
        () = copy(far_read, near_write, is_cut) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut is_cut: watch::Receiver<bool>,
) {
    let mut block = vec![0; 16 * 1024];
    loop {
        let Ok(bytes @ 1..) = from.read(&mut block).await else { return };
        let is_healed = is_cut.wait_for(|is_cut| !is_cut).await.is_ok();
        if !is_healed || to.write_all(block.get(..bytes).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}
