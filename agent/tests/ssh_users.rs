//! Certificates and wrong keys: who gets in, with which rights, and how long it takes.

mod common;

use common::terminal::Terminal;
use common::{Files, TestServer, run, success};
use converge_agent::events::{Event, Events};
use converge_agent::users::{Users, UsersConfig};
use std::process::Output;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// A server whose authority `ca` is trusted as `--trusted-user-ca` does, and another authority `stranger`.
struct Authority {
    server: TestServer,
}

impl Authority {
    async fn trusted(principals: Option<&[&str]>) -> Self {
        Self::start(principals, true).await
    }

    /// Trusted at most by the lines of the key file.
    async fn unknown() -> Self {
        Self::start(None, false).await
    }

    async fn start(principals: Option<&[&str]>, is_trusted: bool) -> Self {
        let files = Files::new().await;
        for name in ["ca", "stranger"] {
            files.make_key(name).await;
        }
        files.authorize("");
        let config = UsersConfig {
            files: vec![files.path("authorized_keys")],
            trusted_user_ca: is_trusted.then(|| files.path("ca.pub")).into_iter().collect(),
            principals: principals.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            ..UsersConfig::default()
        };
        let (users, report) = Users::load(config).await;
        assert_eq!(report.authorities(), usize::from(is_trusted), "{report}");
        Self { server: TestServer::start_on(files, |config| config.users = users).await }
    }

    fn files(&self) -> &Files {
        &self.server.files
    }

    /// A new key `name`, and a certificate for it.
    async fn certify(&self, name: &str, arguments: &[&str]) {
        self.certify_with("ca", name, arguments).await;
    }

    async fn certify_with(&self, authority: &str, name: &str, arguments: &[&str]) {
        self.files().make_key(name).await;
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-q").arg("-s").arg(self.files().path(authority)).args(["-I", "kim@laptop", "-z", "7"]);
        keygen.args(arguments).arg(self.files().path(&format!("{name}.pub")));
        success(&run(keygen, b"").await);
    }

    fn ssh(&self, key: &str, login: &str, command: &str) -> Command {
        let mut ssh = self.files().client("ssh", self.server.port, key);
        ssh.args(["-l", login, "127.0.0.1", command]);
        ssh
    }

    async fn run(&self, key: &str, login: &str) -> Output {
        run(self.ssh(key, login, "echo in"), b"").await
    }

    async fn gets_in(&self, key: &str, login: &str) -> bool {
        let output = self.run(key, login).await;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("Permission denied"), "{key} as {login}: {text}");
        }
        output.status.success()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_gets_in_and_a_bad_one_does_not() {
    let authority = Authority::trusted(None).await;
    let always = ["-n", "kim", "-V", "always:forever"];
    for (name, arguments, gets_in) in [
        ("good", &["-n", "kim", "-V", "-1h:+1h"][..], true),
        ("forever", &always, true),
        ("extension", &["-n", "kim", "-O", "extension:new@example.com"], true),
        ("expired", &["-n", "kim", "-V", "20200101:20200102"], false),
        ("early", &["-n", "kim", "-V", "20990101:21000101"], false),
        ("for-hosts", &["-n", "kim", "-h"], false),
        ("everybody", &[], false),
        ("address", &["-n", "kim", "-O", "source-address=127.0.0.1/32"], false),
        ("critical", &["-n", "kim", "-O", "critical:new@example.com=1"], false),
    ] {
        authority.certify(name, arguments).await;
        assert_eq!(authority.gets_in(name, "kim").await, gets_in, "{name}");
    }
    authority.certify_with("stranger", "unknown", &always).await;
    assert!(!authority.gets_in("unknown", "kim").await);
    // Neither the authority's key nor one without its certificate.
    assert!(!authority.gets_in("ca", "kim").await);
    assert!(!authority.gets_in("other", "kim").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_and_ecdsa_authorities_and_keys_work_but_sha1_does_not() {
    let authority = Authority::unknown().await;
    let files = authority.files();
    for (kind, bits) in [("rsa", "2048"), ("ecdsa", "256")] {
        let (ca, user) = (format!("{kind}-ca"), format!("{kind}-user"));
        for name in [&ca, &user] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-N", "", "-t", kind, "-b", bits, "-f"]).arg(files.path(name));
            success(&run(keygen, b"").await);
        }
        files.authorize(&format!("cert-authority {}", files.public_key(&ca)));
        for (algorithm, gets_in) in [("", true), ("ssh-rsa", false)] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.arg("-q").arg("-s").arg(files.path(&ca)).args(["-I", "x", "-n", "kim"]);
            if !algorithm.is_empty() && kind == "rsa" {
                keygen.args(["-t", algorithm]);
            }
            success(
                &run(
                    {
                        keygen.arg(files.path(&format!("{user}.pub")));
                        keygen
                    },
                    b"",
                )
                .await,
            );
            assert_eq!(authority.gets_in(&user, "kim").await, gets_in || kind != "rsa", "{kind} {algorithm}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn principals_say_who() {
    let authority = Authority::trusted(None).await;
    authority.certify("some", &["-n", "kim,ops"]).await;
    for (login, gets_in) in [("kim", true), ("ops", true), ("lee", false)] {
        assert_eq!(authority.gets_in("some", login).await, gets_in, "{login}");
    }
    let authority = Authority::trusted(Some(&["ops", "admin"])).await;
    authority.certify("ops", &["-n", "kim,ops"]).await;
    authority.certify("kim", &["-n", "kim"]).await;
    assert!(authority.gets_in("ops", "anything").await);
    assert!(!authority.gets_in("kim", "kim").await);
    assert!(!authority.gets_in("kim", "ops").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_the_key_file_names_an_authority_and_its_principals() {
    let authority = Authority::unknown().await;
    authority.certify("kim", &["-n", "kim"]).await;
    assert!(!authority.gets_in("kim", "kim").await);
    let files = authority.files();
    let line = |options: &str| files.authorize(&format!("{options} {}", files.public_key("ca")));
    line("cert-authority");
    assert!(authority.gets_in("kim", "kim").await);
    assert!(!authority.gets_in("kim", "lee").await);
    line(r#"cert-authority,principals="lee,ops""#);
    assert!(!authority.gets_in("kim", "kim").await);
    line(r#"cert-authority,principals="lee,kim""#);
    assert!(authority.gets_in("kim", "anything").await);
    line(r#"cert-authority,expiry-time="20200101Z""#);
    assert!(!authority.gets_in("kim", "kim").await);
    line(r#"cert-authority,command="echo forced""#);
    assert_eq!(success(&authority.run("kim", "kim").await), "forced\n");
    // Of two lines the one that fits counts.
    files.authorize(&format!(
        "cert-authority,principals=\"lee\" {ca}cert-authority,principals=\"kim\" {ca}",
        ca = files.public_key("ca")
    ));
    assert!(authority.gets_in("kim", "x").await);
    line("");
    assert!(!authority.gets_in("kim", "kim").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_limits_what_its_owner_may_do() {
    let authority = Authority::trusted(None).await;
    authority.certify("forced", &["-n", "kim", "-O", "force-command=echo $SSH_ORIGINAL_COMMAND, no"]).await;
    assert_eq!(success(&authority.run("forced", "kim").await), "echo in, no\n");

    let terminal = async |key: &str| {
        let mut ssh = authority.files().client("ssh", authority.server.port, key);
        ssh.args(["-t", "kim@127.0.0.1", "true"]);
        Terminal::open(ssh, 24, 80).finish().await
    };
    authority.certify("bare", &["-n", "kim", "-O", "clear"]).await;
    let (text, status) = terminal("bare").await;
    assert!(text.contains("PTY allocation request failed") && !status.success(), "{status}: {text}");
    assert!(authority.gets_in("bare", "kim").await, "without a terminal it is fine");
    authority.certify("pty", &["-n", "kim", "-O", "clear", "-O", "permit-pty"]).await;
    let (text, status) = terminal("pty").await;
    assert!(status.success(), "{status}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_event_says_who_and_why() {
    let authority = Authority::trusted(None).await;
    authority.certify("kim", &["-n", "kim"]).await;
    let files = authority.server.stop().await;
    let (events, mut happened) = Events::channel();
    let (users, _) = Users::load(UsersConfig {
        files: vec![files.path("authorized_keys")],
        trusted_user_ca: vec![files.path("ca.pub")],
        ..UsersConfig::default()
    })
    .await;
    let server = TestServer::start_on(files, |config| {
        config.users = users;
        config.events = events;
    })
    .await;
    server.files.authorize(&format!("# the team\nno-pty {}", server.files.public_key("id")));
    let fingerprint = async |name: &str| {
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-lf").arg(server.files.path(&format!("{name}.pub")));
        success(&run(keygen, b"").await).split(' ').nth(1).expect("a fingerprint").to_owned()
    };
    let mut login = async |name: &str| {
        let mut ssh = server.files.client("ssh", server.port, name);
        ssh.args(["kim@127.0.0.1", "true"]);
        success(&run(ssh, b"").await);
        loop {
            if let Event::Login { user, .. } = happened.recv().await.expect("an event").event {
                return user;
            }
        }
    };
    let user = login("id").await;
    let file = server.files.path("authorized_keys");
    assert_eq!((user.login.as_str(), user.comment.as_str()), ("kim", "id"));
    assert_eq!((user.key, user.source), (fingerprint("id").await, format!("{}:2", file.display())));

    let user = login("kim").await;
    assert_eq!((user.key, user.comment.as_str()), (fingerprint("kim").await, "kim@laptop (serial 7)"));
    let authority = format!("certificate authority {} (", fingerprint("ca").await);
    assert!(user.source.starts_with(&authority) && user.source.ends_with("ca.pub:1)"), "{}", user.source);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_slowed_down_and_others_do_not_wait_for_them() {
    let server = TestServer::start().await;
    let files = &server.files;
    let mut slow = files.client("ssh", server.port, "other");
    for number in 0..5 {
        let name = format!("wrong{number}");
        files.make_key(&name).await;
        slow.arg("-i").arg(files.path(&name));
    }
    slow.args(["x@127.0.0.1", "true"]);
    let begun = Instant::now();
    let (refused, fine) = tokio::join!(run(slow, b""), server.run("echo in"));
    assert!(!refused.status.success());
    assert_eq!(success(&fine), "in\n");
    // Before the third, fourth, fifth and sixth answer.
    assert!(begun.elapsed() >= Duration::from_millis(100 + 200 + 400 + 800), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_wrong_keys_locks_nobody_out() {
    let server = TestServer::start().await;
    let wrong = || {
        let mut ssh = server.files.client("ssh", server.port, "other");
        ssh.args(["x@127.0.0.1", "true"]);
        run(ssh, b"")
    };
    for _ in 0..3 {
        let outputs = futures_util::future::join_all((0..8).map(|_| wrong())).await;
        assert!(outputs.iter().all(|output| !output.status.success()));
    }
    assert_eq!(success(&server.run("echo in").await), "in\n");
}
