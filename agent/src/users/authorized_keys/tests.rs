use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use russh::keys::PublicKey;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1aiLyEMFnMgoHAAvTCURThRGRwyz3+v2AE3xRbDPLd";
const NOW: SystemTime = UNIX_EPOCH;

fn keys_in(text: &str) -> (tempfile::TempDir, AuthorizedKeys) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("keys");
    std::fs::write(&file, text).expect("the file can be written");
    let keys = AuthorizedKeys::new([&file]);
    (dir, keys)
}

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).expect("a valid key")
}

/// The first line that allows the key, and what is wrong with others.
fn find(keys: &AuthorizedKeys, now: SystemTime) -> (Option<Entry>, Vec<Problem>) {
    let Found { entries, problems } = keys.load().find(&key(KEY), now);
    (entries.into_iter().next().map(|(_, entry)| entry), problems)
}

fn found(text: &str) -> Option<Entry> {
    find(&keys_in(text).1, NOW).0
}

#[test]
fn comments_blank_lines_and_odd_spacing_are_fine() {
    let entry = found(&format!("# a comment\n\n\t \r\n  {KEY}   somebody # at work\r\n")).expect("the key");
    assert_eq!(entry.comment, "somebody # at work");
    assert_eq!(entry.options, KeyOptions::default());
}

#[test]
fn a_key_without_newline_or_comment_is_found_and_another_is_not() {
    assert!(found(KEY).is_some());
    assert!(found(OTHER).is_none());
}

#[test]
fn options_are_read_as_sshd_reads_them() {
    let entry = found(&format!(
        r#"restrict,PTY,command="echo \"a, b\" \n",environment="A=b c",expiry-time="20300101Z" {KEY} me"#
    ))
    .expect("the key");
    assert_eq!(entry.options.command.as_deref(), Some(r#"echo "a, b" \n"#));
    assert_eq!(entry.options.environment, [("A".to_owned(), "b c".to_owned())]);
    assert!(entry.options.pty);
    assert!(!entry.options.port_forwarding && !entry.options.agent_forwarding);
    assert!(!found(&format!("no-pty {KEY}")).expect("the key").options.pty);
}

#[test]
fn options_that_cannot_be_honoured_refuse_the_key_and_name_the_line() {
    for (options, name) in [
        (r#"from="10.0.0.0/8""#, "from"),
        (r#"principals="a""#, "principals"),
        (r#"cert-authority,principals="a,""#, "principals"),
        (r#"cert-authority="yes""#, "cert-authority"),
        (r#"permitopen="a""#, "permitopen"),
        (r#"permitopen="*.b:1""#, "permitopen"),
        (r#"permitlisten="a""#, "permitlisten"),
        ("no-touch-required", "no-touch-required"),
        ("verify-required", "verify-required"),
        ("something-new", "something-new"),
        ("command", "command"),
        (r#"no-pty="yes""#, "no-pty"),
        (r#"environment="A-B=c""#, "environment"),
        (r#"expiry-time="20300101""#, "expiry-time"),
        (r#"command="a",command="b""#, "command"),
    ] {
        let (_dir, keys) = keys_in(&format!("# one\n{options} {KEY}\n"));
        let (entry, problems) = find(&keys, NOW);
        assert_eq!(entry, None, "{options}");
        let text = problems.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("keys:2: key refused: option ") && text.contains(name), "{options}: {text}");
        assert!(
            keys.load().find(&key(OTHER), NOW).problems.is_empty(),
            "problems of other people's keys are not ours"
        );
        assert_eq!(keys.load().usable(NOW).count(), 0);
    }
}

#[test]
fn malformed_options_give_no_key() {
    for options in [r#"command="a"#, r#"command="a"b"#, "no-pty,", ",no-pty", "command=a", "\"", "="] {
        assert_eq!(found(&format!("{options} {KEY}")), None, "{options}");
    }
}

#[test]
fn a_second_line_can_allow_what_the_first_refuses() {
    let entry = found(&format!("from=\"x\" {KEY}\nno-pty {KEY}\n")).expect("the second line");
    assert!(!entry.options.pty);
}

#[test]
fn an_expired_key_is_refused_from_its_second_on() {
    let (_dir, keys) = keys_in(&format!("expiry-time=\"19700102Z\" {KEY}"));
    let last_second = UNIX_EPOCH + Duration::from_secs(86_399);
    assert!(find(&keys, last_second).0.is_some());
    let next_second = last_second + Duration::from_secs(1);
    let (entry, problems) = find(&keys, next_second);
    assert!(entry.is_none());
    assert_eq!(keys.load().usable(next_second).count(), 0);
    assert_eq!(keys.load().expired(next_second).count(), 1);
    assert!(
        problems[0].to_string().ends_with("keys:1: key has expired (expiry-time option)"),
        "{}",
        problems[0]
    );
}

#[test]
fn edits_are_seen_at_once() {
    let (_dir, keys) = keys_in("");
    assert!(find(&keys, NOW).0.is_none());
    std::fs::write(&keys.files()[0], KEY).expect("the file can be written");
    assert!(find(&keys, NOW).0.is_some());
}

#[test]
fn authorities_and_users_are_not_taken_for_each_other() {
    let line = format!(r#"cert-authority,principals="kim, lee",no-pty {KEY}"#);
    let (_dir, keys) = keys_in(&line);
    assert!(find(&keys, NOW).0.is_none(), "nobody logs in with the authority's own key");
    let authority = |keys: &AuthorizedKeys| keys.load().find_authorities(key(KEY).key_data(), NOW).entries;
    let found = authority(&keys);
    let (place, entry) = &found[0];
    assert!(place.to_string().ends_with("keys:1"), "{place}");
    assert_eq!(entry.options.principals, Some(vec!["kim".to_owned(), "lee".to_owned()]));
    assert!(!entry.options.pty);
    assert!(authority(&keys_in(KEY).1).is_empty());
}

#[test]
fn problems_name_file_and_line() {
    let (_dir, keys) = keys_in(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nssh-ed25519 AAAA me\nhello\nssh-rsa-cert-v01@openssh.com AAAA\n",
    );
    let list = keys.load();
    let problems: Vec<_> = list.problems().iter().map(ToString::to_string).collect();
    assert_eq!((list.entries().len(), problems.len()), (0, 4));
    for (problem, part) in problems.iter().zip([
        "keys:1: this is a private key",
        "keys:2: damaged ssh-ed25519 key",
        "keys:3: no public key on this line",
        "keys:4: this is a certificate",
    ]) {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    let missing = AuthorizedKeys::new(["/nonexistent/.authorized_keys"]).load();
    assert_eq!(missing.problems()[0].to_string(), "/nonexistent/.authorized_keys: file does not exist");
}

#[test]
fn endless_bad_lines_are_not_all_remembered_and_hide_no_key() {
    let list = KeyList::parse("keys", format!("{}{KEY}", "x\n".repeat(5000)).as_bytes());
    assert_eq!(list.problems().len(), 1000);
    let found = list.find(&key(KEY), NOW).entries;
    assert_eq!(found[0].0.to_string(), "keys:5001");
}

#[test]
fn limits_hold_on_both_sides() {
    let pad = |total: usize| format!("{KEY} {}", "x".repeat(total - KEY.len() - 1));
    assert!(found(&pad(MAX_LINE_BYTES)).is_some());
    assert!(found(&pad(MAX_LINE_BYTES + 1)).is_none());

    let filler = |total: usize| format!("{KEY}\n#{}", "x".repeat(total - KEY.len() - 2));
    let limit = usize::try_from(MAX_FILE_BYTES).expect("fits");
    assert!(found(&filler(limit)).is_some());
    let (_dir, keys) = keys_in(&filler(limit + 1));
    assert!(matches!(keys.load().problems()[0].kind, ProblemKind::TooLarge));
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert!(matches!(AuthorizedKeys::new([dir.path()]).load().problems()[0].kind, ProblemKind::NotAFile));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..4096)) {
        fuzz_authorized_keys(&data);
    }

    #[test]
    fn damaged_real_lines_never_panic(
        prefix in r#"[a-z,="\\ -]{0,60}"#, cut in 0usize..200, byte in any::<u8>()
    ) {
        let mut line = format!("{prefix} {KEY} comment\n{KEY}\n").into_bytes();
        let at = cut % line.len();
        line[at] = byte;
        fuzz_authorized_keys(&line);
    }

    #[test]
    fn quoted_commands_come_back_as_written(command in r"[ -!#-\[\]-~]{0,60}") {
        let entry = found(&format!("command=\"{command}\" {KEY}")).expect("the key");
        prop_assert_eq!(entry.options.command, Some(command));
    }
}
