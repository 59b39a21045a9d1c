//! What keeps an idle connection small.
//!
//! quinn keeps the buffer of a connection's largest transmit for as long as the connection lives, and makes it large
//! enough for ten datagrams as soon as two go to the kernel together. The relay's answer in a TLS handshake with
//! post-quantum keys is two, so every agent that then idles for hours would hold room for ten. A new connection's
//! datagrams therefore go one by one.

use quinn::{
    AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use std::{
    cell::Cell,
    fmt, io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

/// How often a connection's task has run before it sends several datagrams at once. A handshake takes about five.
const FIRST_POLLS: u32 = 32;

thread_local! {
    /// Whether the task that runs on this thread now is that of a new connection.
    static IS_NEW: Cell<bool> = const { Cell::new(false) };
}

/// tokio's runtime for quinn, with the rule of this module.
#[derive(Debug)]
pub(super) struct FrugalRuntime;

impl Runtime for FrugalRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(Box::pin(Task { future, polls: 0 }));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket(TokioRuntime.wrap_udp_socket(socket)?)))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// A task of quinn's: a connection's, or the endpoint's, which the rule does not concern.
struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    polls: u32,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_new = self.polls < FIRST_POLLS;
        self.polls += u32::from(is_new);
        let _here = Here::enter(is_new);
        self.future.as_mut().poll(context)
    }
}

/// As long as a task is polled.
struct Here;

impl Here {
    fn enter(is_new: bool) -> Self {
        IS_NEW.set(is_new);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        IS_NEW.set(false);
    }
}

struct Socket(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        if IS_NEW.get() { 1 } else { self.0.max_transmit_segments() }
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn only_the_first_polls_of_a_task_are_of_a_new_connection() {
        let socket = FrugalRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let many = socket.max_transmit_segments();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, socket_of_task) = (seen.clone(), socket.clone());
        let (done, is_done) = tokio::sync::oneshot::channel();
        FrugalRuntime.spawn(Box::pin(async move {
            for _ in 0..=FIRST_POLLS {
                told.lock().unwrap().push(socket_of_task.max_transmit_segments());
                tokio::task::yield_now().await;
            }
            let _ = done.send(());
        }));
        is_done.await.unwrap();
        let first = FIRST_POLLS as usize;
        let seen = seen.lock().unwrap().clone();
        assert_eq!((&seen[..first], &seen[first..]), (&vec![1; first][..], &[many][..]));
        assert_eq!(socket.max_transmit_segments(), many, "outside of a task");
    }
}
