//! The agent's SSH server on a TCP port of this machine, without any relay: for tests and for trying it out.
//!
//! ```text
//! ssh-keygen -q -t ed25519 -N '' -f host_key
//! cargo run -p converge-agent --example ssh_server -- host_key ~/.ssh/id_ed25519.pub
//! ```
//!
//! It prints the port it listens on, and ends cleanly on SIGTERM.

use std::path::PathBuf;

use anyhow::Context;
use converge_agent::platform::signals::reset_signals;
use converge_agent::ssh::{Addresses, SessionContext, SshServer, SshServerConfig};
use converge_agent::users::authorized_keys::AuthorizedKeys;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    reset_signals()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(host_key), Some(authorized_keys)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: ssh_server HOST-KEY-FILE AUTHORIZED-KEYS-FILE");
    };
    let host_key = russh::keys::load_secret_key(&host_key, None)
        .with_context(|| format!("host key {}", host_key.display()))?;
    let config =
        SshServerConfig::new(host_key, AuthorizedKeys::new([authorized_keys]), std::env::current_dir()?);
    let server = SshServer::new(config)?;

    let mut stop = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());

    let cancel = CancellationToken::new();
    let sessions = TaskTracker::new();
    loop {
        let (stream, client) = tokio::select! {
            biased;
            _ = stop.recv() => break,
            accepted = listener.accept() => accepted?,
        };
        stream.set_nodelay(true)?;
        let mut context = SessionContext::new(client.to_string());
        context.addresses = Some(Addresses { client, local: stream.local_addr()? });
        let (server, cancel) = (server.clone(), cancel.child_token());
        sessions.spawn(async move {
            if let Err(error) = server.serve(stream, context, cancel).await {
                tracing::info!(%error, "session failed");
            }
        });
    }
    cancel.cancel();
    sessions.close();
    sessions.wait().await;
    Ok(())
}
