//! Several relays that act as one, each with threads of its own, so that one can hang or die alone.

use super::{RelayBuilder, TestRelay, a_relay, etcd::Etcd, soon, wire::Wire};
use converge_certs::cluster::{Join, init, join};
use converge_proto::RelayNumber;
use converge_relay::{
    config::{ClusterConfig, cluster::EtcdConfig},
    server::Stopped,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    ops::Deref,
    sync::mpsc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
};

/// Relays 1, 2, …, and their etcd.
pub struct TestCluster {
    relays: Vec<Machine>,
    /// From each of them to etcd.
    wires: Vec<Wire>,
    etcd: Etcd,
    _files: TempDir,
}

/// What a relay runs on.
pub struct Machine {
    relay: TestRelay,
    runtime: Option<Runtime>,
    hung: Option<mpsc::Sender<()>>,
}

impl Deref for Machine {
    type Target = TestRelay;

    fn deref(&self) -> &TestRelay {
        &self.relay
    }
}

impl TestCluster {
    /// Starts relays, and waits until each knows all others and can give IDs.
    pub async fn start<const N: usize>(relays: [RelayBuilder; N]) -> Self {
        let etcd = Etcd::start().await;
        let files = tempfile::tempdir().unwrap();
        let home = files.path().join("home");
        init(&home, &[]).unwrap();
        let mut wires = Vec::new();
        for _ in 0..N {
            wires.push(Wire::to(etcd.address).await);
        }
        let relays = relays.into_iter().zip(&wires).zip(1..).map(|((mut relay, wire), number)| {
            let number = RelayNumber::new(number).unwrap();
            let out = files.path().join(number.to_string());
            let identity = join(&home, number, &out, Join::First, SystemTime::now()).unwrap();
            relay.config.identity = identity.shared().clone();
            relay.config.cluster = Some(ClusterConfig {
                identity,
                listen: "127.0.0.1:0".parse().unwrap(),
                address: None,
                relay_url: format!("https://relay-{number}.example").parse().ok(),
                forwards_packets: true,
                etcd: EtcdConfig {
                    endpoints: vec![format!("http://{}", wire.address).parse().unwrap()],
                    prefix: "/test/".parse().unwrap(),
                    ca: None,
                    certificate: None,
                    user: None,
                },
            });
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let entered = runtime.enter();
            let relay = relay.start();
            drop(entered);
            Machine { relay, runtime: Some(runtime), hung: None }
        });
        let relays = relays.collect();
        let cluster = Self { relays, wires, etcd, _files: files };
        for number in 1..=N {
            cluster.relay(number).until_all_are_up(N).await;
        }
        cluster
    }

    /// A relay, by its number.
    pub fn relay(&self, number: usize) -> &Machine {
        &self.relays[number - 1]
    }

    /// Where etcd is, past all wires.
    pub fn etcd(&self) -> SocketAddr {
        self.etcd.address
    }

    /// What a relay has to etcd.
    pub fn wire(&self, number: usize) -> &Wire {
        &self.wires[number - 1]
    }

    pub fn relay_mut(&mut self, number: usize) -> &mut Machine {
        &mut self.relays[number - 1]
    }
}

/// `N` relays that anybody may use.
pub fn relays<const N: usize>() -> [RelayBuilder; N] {
    [(); N].map(|()| a_relay())
}

impl Machine {
    /// Nothing of the relay goes on until [`go_on`](Self::go_on).
    pub fn hang(&mut self) {
        let (resume, resumed) = mpsc::channel();
        // Its only thread waits for what never comes.
        self.runtime.as_ref().unwrap().spawn(async move { resumed.recv().is_err() });
        self.hung = Some(resume);
    }

    pub fn go_on(&mut self) {
        self.hung = None;
    }

    /// The relay is gone, and has told nobody.
    pub fn kill(&mut self) {
        self.hung = None;
        self.runtime.take().unwrap().shutdown_background();
    }

    /// The end of a relay that was told to stop.
    pub async fn stopped(&mut self) -> Stopped {
        soon("the end of the relay", &mut self.relay.running).await.unwrap()
    }

    async fn until_all_are_up(&self, count: usize) {
        // A relay that is asked for with a token cannot be asked by this; it says so, and is up then.
        self.until("/api/v1/relays", |answer| {
            let up = answer["relays"]
                .as_array()
                .map(|relays| relays.iter().filter(|relay| relay["now"]["registry_up"] == true).count());
            up == Some(count) || answer["status"] == 401
        })
        .await;
    }

    /// Asks until the answer is as it should be.
    pub async fn until(&self, path: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asking = async {
            loop {
                last = self.api("GET", path, None, None).await.1;
                if is_it(&last) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_mins(1), asking).await.is_ok();
        assert!(in_time, "{path} stays {last:#}");
        last
    }

    /// Asks the API. Returns the status, and JSON or null.
    pub async fn api(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut headers = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        if body.is_some() {
            headers.push_str("Content-Type: application/json\r\n");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (status, text) = self.http(method, path, &headers, &body).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Any request: the status, and the body of the answer.
    pub async fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let asking = async {
            let mut connection = TcpStream::connect(self.http).await.unwrap();
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n{headers}\r\n{body}"
            );
            connection.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
        };
        soon(path, asking).await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.hung = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
