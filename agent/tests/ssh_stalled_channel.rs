//! One stalled channel, which with the obvious use of the SSH library stops its whole connection or grows memory
//! without limit (see `ssh::flow`). Alone in its program, because it measures the program's memory.

mod common;

use std::process::Stdio;

use common::{TestServer, assert_same_bytes, noise, run, success, until};
use tokio::io::AsyncWriteExt;

const MIB: usize = 1024 * 1024;

/// Highest memory use of this process so far.
fn peak_memory_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_channel_stops_no_other_one_and_gets_all_its_bytes_later() {
    let server = TestServer::start().await;
    let control = format!("ControlPath={}", server.files.path("control").display());
    let options = ["-o", &control];
    let mut master = server
        .ssh(&["-M", "-N", "-o", &control, "-o", "ControlPersist=no"], "")
        .spawn()
        .expect("ssh is installed");
    until("the control socket", || server.files.path("control").exists()).await;
    success(&run(server.ssh(&options, "mkfifo go"), b"").await);

    // 48 MiB for a program that reads nothing until it is told to.
    let before = peak_memory_bytes();
    let data = noise(48 * MIB);
    let mut stalled = server.ssh(&options, "cat go; exec cat > stalled");
    let mut stalled = stalled.stdin(Stdio::piped()).spawn().expect("ssh is installed");
    let mut stdin = stalled.stdin.take().expect("piped");
    let (taken, mut progress) = tokio::sync::watch::channel(0_usize);
    let input = data.clone();
    let writing = tokio::spawn(async move {
        for piece in input.chunks(64 * 1024) {
            stdin.write_all(piece).await.expect("ssh takes all input in the end");
            taken.send_modify(|sent| *sent += piece.len());
        }
    });
    // More than one window has gone: what follows meets a connection with a full backlog.
    progress.wait_for(|&sent| sent > 12 * MIB).await.expect("the writer lives");

    let small = noise(5 * MIB);
    for _ in 0..10 {
        let output = run(server.ssh(&options, "cat"), &small).await;
        success(&output);
        assert_same_bytes(&output.stdout, &small);
    }
    assert!(
        *progress.borrow() < 24 * MIB,
        "{} bytes were taken for a program that reads nothing",
        *progress.borrow()
    );
    let grown = peak_memory_bytes().saturating_sub(before);
    // 48 + 48 MiB are the test's own input and its copy, 20 MiB the round trips.
    assert!(grown < (48 + 48 + 20 + 64) * MIB, "{grown} bytes of memory");

    success(&run(server.ssh(&options, "echo > go"), b"").await);
    writing.await.expect("all input was taken");
    let status = tokio::time::timeout(common::PATIENCE, stalled.wait())
        .await
        .expect("it ends")
        .expect("it was waited for");
    assert!(status.success(), "{status}");
    let written = std::fs::read(server.files.path("work/stalled")).expect("the file can be read");
    assert_same_bytes(&written, &data);
    master.kill().await.expect("the master can be killed");
}
