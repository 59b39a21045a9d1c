//! What editors with a remote mode do on the wire, such as VS Code: a script over `ssh -T -D PORT HOST bash` starts a
//! server in the job, or finds the one that runs, and says its port; the editor talks to it through ssh's SOCKS proxy,
//! also after a new connection.
//!
//! The editors themselves are not run here: they are large, and fetch their server from the internet.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Process, Setup,
    loopback::{exchange, free_port, through_socks},
    process::{Leftover, is_running},
    programs,
};
use rustix::process::Signal;
use std::{fs, net::SocketAddr};

on_both_carriers! { editors_server_is_reached_through_ssh_and_found_again }

/// A connection as an editor makes it.
struct Window {
    ssh: Process,
    proxy: SocketAddr,
    server_port: u16,
}

impl Window {
    fn open(setup: &Setup, name: &str) -> Result<Self> {
        let python = programs::installed("python3")?;
        let proxy = free_port()?;
        let mut ssh = setup.configured("ssh")?;
        ssh.args([
            "-T",
            "-o",
            "ExitOnForwardFailure=yes",
            "-D",
            &proxy.to_string(),
            &setup.host(),
            "bash -s",
        ]);
        let mut ssh = Process::start_with_input(name, &mut ssh, setup.path())?;
        // The input stays open as long as the window; bash reads it line by line.
        let script = format!(
            "if ! kill -0 $(cat server.pid 2>/dev/null) 2>/dev/null; then\n\
                 nohup '{}' -u -m http.server --bind 127.0.0.1 0 > server.log 2>&1 < /dev/null &\n\
                 echo $! > server.pid\n\
             fi\n\
             until grep -q ' port [0-9]' server.log; do sleep 0.05; done\n\
             echo \"listeningOn==$(sed -n 's/.* port \\([0-9]*\\) .*/\\1/p' server.log)==\"",
            python.display()
        );
        ssh.write_line(&script)?;
        let server_port = ssh.wait_for("the server's port", |line| {
            line.strip_prefix("listeningOn==")?.strip_suffix("==")?.parse().ok()
        })?;
        Ok(Self { ssh, proxy, server_port })
    }

    fn get(&self, path: &str) -> Result<String> {
        let stream = through_socks(self.proxy, "localhost", self.server_port)?;
        let answer = exchange(&stream, format!("GET /{path} HTTP/1.0\r\n\r\n").as_bytes())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn editors_server_is_reached_through_ssh_and_found_again(setup: &mut Setup) -> Result<()> {
    fs::write(setup.job().join("source"), "text of the job\n")?;
    let mut first = Window::open(setup, "first-window")?;
    let server: u32 = fs::read_to_string(setup.job().join("server.pid"))?.trim().parse()?;
    let server = Leftover(server);
    let fetch = |window: &Window| {
        let answer = window.get("source")?;
        assert!(
            answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\ntext of the job\n"),
            "{answer}"
        );
        anyhow::Ok(())
    };
    for _ in 0..5 {
        fetch(&first)?;
    }
    assert!(first.get("missing")?.starts_with("HTTP/1.0 404 "));
    // The window crashes, and is opened again.
    first.ssh.signal(Signal::KILL)?;
    first.ssh.wait()?;
    let mut second = Window::open(setup, "second-window")?;
    assert_eq!(second.server_port, first.server_port, "it is the same server");
    assert!(is_running(server.0));
    fetch(&second)?;
    second.ssh.write_line("exit 4")?;
    let status = second.ssh.wait()?;
    assert_eq!(status.code().context("a status")?, 4);
    Ok(())
}
