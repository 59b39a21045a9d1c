//! A real etcd, on ports and with data of its own.

use super::soon;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How often it is started anew when its ports were taken meanwhile.
const TRIES: usize = 5;

/// One member, which ends when this is dropped.
pub struct Etcd {
    child: Child,
    /// Where clients reach it, without TLS.
    pub address: SocketAddr,
    _data: TempDir,
}

impl Etcd {
    /// Starts one, and waits until it takes connections.
    pub async fn start() -> Self {
        for _ in 0..TRIES {
            if let Some(etcd) = Self::try_start().await {
                return etcd;
            }
        }
        panic!("etcd ended {TRIES} times when it was started");
    }

    async fn try_start() -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let [port, peers] = free_ports();
        let [url, peer_url] = [port, peers].map(|port| format!("http://127.0.0.1:{port}"));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            // What it forgets when the machine fails is no test's.
            .args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"])
            .stdout(Stdio::null())
            .spawn()
            .expect("etcd is needed, as make setup says");
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let mut etcd = Self { child, address, _data: data };
        let up = async {
            while TcpStream::connect(address).await.is_err() {
                if etcd.child.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            true
        };
        soon("etcd", up).await.then_some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that nobody has at this moment.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
