//! Both directions of a channel at once, which hangs with the obvious use of the SSH library (see `ssh::flow`), and
//! the exit status that a close before it would lose.

mod common;

use std::process::Stdio;

use common::{TestServer, assert_same_bytes, noise, run, success, until};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_only_its_own_program() {
    let server = TestServer::start().await;
    let control = format!("ControlPath={}", server.files.path("control").display());
    let options = ["-o", &control];
    let mut master = server
        .ssh(&["-M", "-N", "-o", &control, "-o", "ControlPersist=no"], "")
        .spawn()
        .expect("ssh is installed");
    until("the control socket", || server.files.path("control").exists()).await;
    let mut unread = server.ssh(&options, "echo > writing; exec yes");
    let mut unread = unread.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ssh is installed");
    until("the program runs", || server.files.path("work/writing").exists()).await;
    let data = noise(5 * MIB);
    for _ in 0..3 {
        let output = run(server.ssh(&options, "cat"), &data).await;
        assert_same_bytes(&output.stdout, &data);
    }
    unread.kill().await.expect("ssh can be killed");
    master.kill().await.expect("the master can be killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_of_one_channel_at_full_speed() {
    let server = TestServer::start().await;
    for size in [5 * MIB, 40 * MIB] {
        let data = noise(size);
        let output = run(server.ssh(&[], "cat"), &data).await;
        success(&output);
        assert_same_bytes(&output.stdout, &data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_with_many_requests_in_flight() {
    let server = TestServer::start().await;
    let data = noise(24 * MIB);
    std::fs::write(server.files.path("work/there"), &data).expect("the file can be written");
    for requests in ["64", "256"] {
        let mut sftp = server.client("sftp");
        sftp.args(["-q", "-R", requests, "-b", "-", "x@127.0.0.1"]);
        let here = server.files.path("here");
        let batch = format!("get there {0}\nput {0} back\n", here.display());
        success(&run(sftp, batch.as_bytes()).await);
        assert_same_bytes(&std::fs::read(&here).expect("downloaded"), &data);
        assert_same_bytes(&std::fs::read(server.files.path("work/back")).expect("uploaded"), &data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_in_both_protocols_copies_and_succeeds() {
    let server = TestServer::start().await;
    let data = noise(6 * MIB);
    let (here, back) = (server.files.path("here"), server.files.path("back"));
    std::fs::write(&here, &data).expect("the file can be written");
    for protocol in ["-O", "-s"] {
        let mut up = server.client("scp");
        up.args(["-q", protocol]).arg(&here).arg(format!("x@127.0.0.1:up{protocol}"));
        success(&run(up, b"").await);
        assert_same_bytes(
            &std::fs::read(server.files.path(&format!("work/up{protocol}"))).expect("uploaded"),
            &data,
        );
        let mut down = server.client("scp");
        down.args(["-q", protocol]).arg(format!("x@127.0.0.1:up{protocol}")).arg(&back);
        success(&run(down, b"").await);
        assert_same_bytes(&std::fs::read(&back).expect("downloaded"), &data);
        std::fs::remove_file(&back).expect("the file can be removed");
    }
}
