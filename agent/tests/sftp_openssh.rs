//! The SFTP server under OpenSSH's own clients, which talk to it over pipes (`-D`).
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;

/// A local directory, and a remote one in which the server starts.
struct Lab {
    local: TempDir,
    remote: TempDir,
}

/// How a client ended and what it said.
struct Ending {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Lab {
    fn new() -> Self {
        Self { local: tempfile::tempdir().unwrap(), remote: tempfile::tempdir().unwrap() }
    }

    fn local(&self, name: impl AsRef<Path>) -> PathBuf {
        self.local.path().join(name)
    }

    fn remote(&self, name: impl AsRef<Path>) -> PathBuf {
        self.remote.path().join(name)
    }

    /// Runs a batch that must succeed, and returns what it printed.
    fn sftp(&self, commands: impl AsRef<[u8]>) -> String {
        self.sftp_with(&[], commands)
    }

    fn sftp_with(&self, options: &[&str], commands: impl AsRef<[u8]>) -> String {
        let ending = self.try_sftp(options, commands);
        assert!(ending.success, "{}{}", ending.stdout, ending.stderr);
        ending.stdout
    }

    fn try_sftp(&self, options: &[&str], commands: impl AsRef<[u8]>) -> Ending {
        let mut sftp = Command::new("sftp")
            .args(options)
            .args(["-b", "-", "-D"])
            .arg(server())
            .current_dir(self.remote.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tests need OpenSSH's sftp");
        let mut batch = sftp.stdin.take().unwrap();
        batch.write_all(format!("lcd {}\n", self.local.path().display()).as_bytes()).unwrap();
        batch.write_all(commands.as_ref()).unwrap();
        drop(batch);
        sftp.wait_with_output().unwrap().into()
    }
}

impl From<Output> for Ending {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The example program that cargo has built beside this test.
fn server() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let server = test.parent().and_then(Path::parent).unwrap().join("examples/sftp_server");
    assert!(server.exists(), "{} is built by `cargo test`, or by `cargo build --examples`", server.display());
    server
}

/// Bytes without a pattern, the same for the same length.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares contents without printing megabytes.
fn assert_same(one: impl AsRef<Path>, other: impl AsRef<Path>) {
    let (one, other) = (one.as_ref(), other.as_ref());
    assert!(
        fs::read(one).unwrap() == fs::read(other).unwrap(),
        "{} and {} differ",
        one.display(),
        other.display()
    );
}

#[test]
fn files_of_all_sizes_go_there_and_back_unchanged() {
    let lab = Lab::new();
    for length in [0, 1, 32_767, 32_768, 261_120, 261_121, 3_000_000] {
        fs::write(lab.local("file"), noise(length)).unwrap();
        lab.sftp("put file there\nget there back\n");
        assert_same(lab.local("file"), lab.remote("there"));
        assert_same(lab.local("file"), lab.local("back"));
    }
}

#[test]
fn hundreds_of_requests_at_once_neither_hang_nor_mix_up() {
    let lab = Lab::new();
    fs::write(lab.local("file"), noise(64 << 20)).unwrap();
    for options in [&["-R", "256", "-B", "261120"][..], &["-R", "256", "-B", "32768"], &["-R", "2000"]] {
        lab.sftp_with(options, "put file there\nget there back\n");
        assert_same(lab.local("file"), lab.remote("there"));
        assert_same(lab.local("file"), lab.local("back"));
    }
}

#[test]
fn the_session_starts_in_the_servers_directory() {
    let lab = Lab::new();
    let directory = lab.remote.path().canonicalize().unwrap();
    let said = lab.sftp("pwd\nmkdir deep\ncd deep/../deep\npwd\n");
    assert!(said.contains(&format!("Remote working directory: {}\n", directory.display())), "{said}");
    assert!(said.contains(&format!("Remote working directory: {}/deep\n", directory.display())), "{said}");
}

#[test]
fn directories_are_listed_as_by_ls() {
    let lab = Lab::new();
    fs::write(lab.remote("file"), noise(12_345)).unwrap();
    fs::set_permissions(lab.remote("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let said = lab.sftp("mkdir sub\nsymlink file link\nls -la\nls -1\n");
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("sftp>")).collect();
    let line = |name: &str| said.iter().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
    assert!(line("file").starts_with("-rw-r-----"), "{said:?}");
    assert!(line("file").contains(" 12345 "), "{said:?}");
    assert!(line("sub").starts_with("drwx"), "{said:?}");
    assert!(line("link").starts_with("lrwxrwxrwx"), "{said:?}");
    assert!(line(".").starts_with("drwx") && line("..").starts_with("drwx"), "{said:?}");
    for name in ["file", "link", "sub"] {
        assert!(said.iter().any(|line| line.trim_end() == name), "{said:?}");
    }
}

#[test]
fn names_links_and_modes_are_changed() {
    let lab = Lab::new();
    fs::write(lab.remote("a"), "a").unwrap();
    fs::write(lab.remote("b"), "b").unwrap();
    lab.sftp("rename a c\nsymlink c soft\nln c hard\nchmod 600 c\nmkdir d\nrmdir d\nrm b\n");
    assert!(!lab.remote("a").exists() && !lab.remote("b").exists() && !lab.remote("d").exists());
    assert_eq!(fs::read_link(lab.remote("soft")).unwrap(), Path::new("c"));
    let metadata = fs::metadata(lab.remote("hard")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 2));
}

#[test]
fn a_new_name_that_is_taken_is_replaced_only_the_posix_way() {
    let lab = Lab::new();
    fs::write(lab.remote("a"), "a").unwrap();
    fs::write(lab.remote("b"), "b").unwrap();
    let refused = lab.try_sftp(&[], "rename -l a b\n");
    assert!(!refused.success && refused.stderr.contains("Failure"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(lab.remote("b")).unwrap(), "b");
    lab.sftp("rename a b\n");
    assert_eq!(fs::read_to_string(lab.remote("b")).unwrap(), "a");
}

#[test]
fn free_space_is_told() {
    let said = Lab::new().sftp("df -h\ndf -i\n");
    assert_eq!(said.lines().filter(|line| line.ends_with('%')).count(), 2, "{said}");
}

#[test]
fn a_transfer_cut_short_is_resumed() {
    let lab = Lab::new();
    let content = noise(5_000_000);
    fs::write(lab.local("file"), &content).unwrap();
    fs::write(lab.remote("there"), &content[..2_345_678]).unwrap();
    lab.sftp("reput file there\n");
    assert_same(lab.local("file"), lab.remote("there"));
    fs::write(lab.local("back"), &content[..1_234_567]).unwrap();
    lab.sftp("reget there back\n");
    assert_same(lab.local("file"), lab.local("back"));
}

#[test]
fn times_and_modes_are_kept_when_asked_for() {
    let lab = Lab::new();
    let time = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    fs::write(lab.local("file"), "x").unwrap();
    fs::set_permissions(lab.local("file"), fs::Permissions::from_mode(0o705)).unwrap();
    fs::File::options().write(true).open(lab.local("file")).unwrap().set_modified(time).unwrap();
    lab.sftp("put -pf file there\nget -p there back\n");
    for path in [lab.remote("there"), lab.local("back")] {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.modified().unwrap(), time, "{}", path.display());
        assert_eq!(metadata.mode() & 0o7777, 0o705, "{}", path.display());
    }
}

#[test]
fn names_are_bytes() {
    let lab = Lab::new();
    let name = OsStr::from_bytes(b"caf\xe9 \xff\xfe");
    fs::write(lab.local(name), "latin 1").unwrap();
    lab.sftp(b"put \"caf\xe9 \xff\xfe\"\nrename \"caf\xe9 \xff\xfe\" \"\xf0\"\nget \xf0 back\nls -l \xf0\n");
    assert_same(lab.local(name), lab.local("back"));
    assert_same(lab.local(name), lab.remote(OsStr::from_bytes(b"\xf0")));
}

#[test]
fn trees_of_many_small_files_go_there_and_back() {
    let lab = Lab::new();
    let names: Vec<String> =
        (0..600).map(|number| format!("{}/{}/{number}", number % 7, number % 3)).collect();
    for name in &names {
        let path = lab.local("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    lab.sftp("put -r tree\nget -r tree back\n");
    for name in &names {
        assert_same(lab.local("tree").join(name), lab.remote("tree").join(name));
        assert_same(lab.local("tree").join(name), lab.local("back").join(name));
    }
}

#[test]
fn a_directory_of_more_entries_than_a_reply_holds_is_listed_whole() {
    let lab = Lab::new();
    for number in 0..1234 {
        fs::write(lab.remote(format!("{number:0>200}")), "").unwrap();
    }
    let said = lab.sftp("ls -1\n");
    assert_eq!(said.lines().filter(|line| line.trim_end().len() == 200).count(), 1234);
}

#[test]
fn refusals_have_the_right_words() {
    let lab = Lab::new();
    fs::create_dir(lab.remote("taken")).unwrap();
    fs::write(lab.remote("taken/inside"), "").unwrap();
    let said = |command: &str| {
        let ending = lab.try_sftp(&[], command);
        assert!(!ending.success, "{command}");
        ending.stderr
    };
    assert!(said("get missing\n").contains("not found"));
    assert!(said("chmod 600 missing\n").contains("No such file or directory"));
    assert!(said("mkdir taken\n").contains("Failure"));
    assert!(said("rmdir taken\n").contains("Failure"));
    // Not even the superuser may do this.
    #[cfg(target_os = "linux")]
    assert!(said("rm /proc/version\n").contains("Permission denied"));
}

#[test]
fn others_files_are_denied() {
    let lab = Lab::new();
    fs::write(lab.remote("secret"), "").unwrap();
    fs::set_permissions(lab.remote("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(lab.remote("secret")).is_ok() {
        // The superuser, to whom nothing is denied.
        return;
    }
    let ending = lab.try_sftp(&[], "get secret\n");
    assert!(!ending.success && ending.stderr.contains("Permission denied"), "{}", ending.stderr);
}

#[test]
fn scp_copies_both_ways() {
    let lab = Lab::new();
    fs::create_dir(lab.local("tree")).unwrap();
    fs::write(lab.local("tree/file"), noise(1_000_000)).unwrap();
    let scp = |from: &Path, to: &str| {
        let ending: Ending = Command::new("scp")
            .args(["-s", "-r", "-p", "-D"])
            .arg(server())
            .arg(from)
            .arg(to)
            .current_dir(lab.remote.path())
            .output()
            .expect("the tests need OpenSSH's scp")
            .into();
        assert!(ending.success, "{}", ending.stderr);
    };
    scp(&lab.local("tree"), "agent:there");
    assert_same(lab.local("tree/file"), lab.remote("there/file"));
    scp(Path::new("agent:there"), lab.local("back").to_str().unwrap());
    assert_same(lab.local("tree/file"), lab.local("back/file"));
}
