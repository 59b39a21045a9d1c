//! Programs that people download, and the scripts that install them.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{TestRelay, a_relay, soon};
use std::{fs, os::unix::fs::symlink, process::Command};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PROGRAM: &str = "converge-linux-x86_64";

/// Head and body of the answer to a request with these further header lines.
async fn ask(relay: &TestRelay, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut connection = TcpStream::connect(relay.http).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", connection.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap().to_ascii_lowercase(), body)
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A program of four bytes, beside it compressed, and a link out.
fn some_programs() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(PROGRAM), "0123").unwrap();
    fs::write(directory.path().join(format!("{PROGRAM}.gz")), "compressed").unwrap();
    symlink("/etc/passwd", directory.path().join("passwd")).unwrap();
    directory
}

#[tokio::test]
async fn a_file_comes_whole_in_parts_or_not_again() {
    let programs = some_programs();
    let relay = a_relay().with_downloads_of(programs.path()).start();
    let path = format!("/downloads/{PROGRAM}");
    let (head, body) = ask(&relay, "GET", &path, "").await;
    assert_eq!((status(&head), &body[..]), (200, &b"0123"[..]), "{head}");
    assert_eq!(header(&head, "content-type"), Some("application/octet-stream"));
    assert_eq!(header(&head, "content-length"), Some("4"));
    assert_eq!(header(&head, "content-disposition"), Some("attachment"));
    assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"));

    let etag = format!("If-None-Match: {}\r\n", header(&head, "etag").unwrap());
    let (head, body) = ask(&relay, "GET", &path, &etag).await;
    assert_eq!((status(&head), &body[..]), (304, &b""[..]), "{head}");

    let (head, body) = ask(&relay, "GET", &path, "Range: bytes=1-2\r\n").await;
    assert_eq!((status(&head), &body[..]), (206, &b"12"[..]), "{head}");
    assert_eq!(header(&head, "content-range"), Some("bytes 1-2/4"));
    let (head, _) = ask(&relay, "GET", &path, "Range: bytes=9-\r\n").await;
    assert_eq!(status(&head), 416, "{head}");

    let (head, body) = ask(&relay, "HEAD", &path, "").await;
    assert_eq!((status(&head), header(&head, "content-length"), body.len()), (200, Some("4"), 0), "{head}");

    let (head, body) = ask(&relay, "GET", &path, "Accept-Encoding: gzip\r\n").await;
    assert_eq!((status(&head), header(&head, "content-encoding")), (200, Some("gzip")), "{head}");
    assert_eq!(&body[..], b"compressed");
    relay.stop().await;
}

#[tokio::test]
async fn nothing_else_of_the_disk_can_be_had() {
    let programs = some_programs();
    let relay = a_relay().with_downloads_of(programs.path()).start();
    for name in [
        "passwd",
        "nothing",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "../../etc/passwd",
        "..",
        "./",
        "%2fetc%2fpasswd",
        "converge-linux-x86_64%00",
        "a/b",
        "",
    ] {
        let (head, body) = ask(&relay, "GET", &format!("/downloads/{name}"), "").await;
        assert_eq!(status(&head), 404, "{name}: {head}");
        assert!(!body.windows(4).any(|part| part == b"root"), "{name}");
    }
    let (head, _) = ask(&relay, "PUT", &format!("/downloads/{PROGRAM}"), "").await;
    assert_eq!(status(&head), 405, "{head}");
    relay.stop().await;
}

#[tokio::test]
async fn scripts_are_written_for_the_public_url() {
    let programs = some_programs();
    let relay = a_relay().with_downloads_of(programs.path());
    let url = format!("https://ci.example/sub/path#{}", relay.pin());
    let relay = relay.under(&url).start();
    let (head, body) = ask(&relay, "GET", "/install.sh", "").await;
    assert_eq!(
        (status(&head), header(&head, "content-type")),
        (200, Some("text/plain; charset=utf-8")),
        "{head}"
    );
    let script = String::from_utf8(body).unwrap();
    assert!(script.contains("\nbase='https://ci.example/sub/path/'\n"), "{script}");
    assert!(script.contains("\npin='sha256//"), "{script}");
    assert!(
        script.contains(&format!(
            "    {PROGRAM}) echo 1be2e452b46d7a0d9656bbb1f768e8248eba1b75baed65f5d99eafa948899a6a ;;"
        )),
        "{script}"
    );
    assert!(!script.contains("passwd"), "{script}");
    // As a shell reads it; nothing is run.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("install.sh");
    fs::write(&file, &script).unwrap();
    assert!(Command::new("sh").arg("-n").arg(&file).status().unwrap().success());

    let (head, body) = ask(&relay, "GET", "/install.ps1", "").await;
    assert_eq!(status(&head), 200, "{head}");
    assert!(String::from_utf8(body).unwrap().contains("$base = 'https://ci.example/sub/path/'"));
    relay.stop().await;
}

#[tokio::test]
async fn usage_knows_whether_there_is_an_agent_for_windows() {
    let programs = some_programs();
    let relay = a_relay().with_downloads_of(programs.path()).under("https://ci.example").start();
    let path = "/usage?ci=other&os=windows&shell=pwsh";
    let page = async || String::from_utf8(ask(&relay, "GET", path, "").await.1).unwrap();
    let before = page().await;
    assert!(
        before.contains("There is no agent for Windows yet") && !before.contains("scriptblock"),
        "{before}"
    );
    fs::write(programs.path().join("converge-agent-windows-x86_64.exe"), "MZ").unwrap();
    let after = page().await;
    assert!(after.contains("This relay hands out an agent for Windows"), "{after}");
    assert!(after.contains("https://ci.example/install.ps1") && after.contains("scriptblock"), "{after}");
    relay.stop().await;
}

#[tokio::test]
async fn a_relay_without_downloads_says_so_and_harms_no_shell() {
    let relay = a_relay().start();
    for path in ["/install.sh", "/install.ps1", "/downloads/converge"] {
        let (head, body) = ask(&relay, "GET", path, "").await;
        assert_eq!(status(&head), 404, "{head}");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "# this relay offers no programs for download; its operator can with --downloads\n"
        );
    }
    relay.stop().await;
}
