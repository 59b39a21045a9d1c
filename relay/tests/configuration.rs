//! The configuration: flags over environment over file, and what is said of one that is wrong.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// A directory with a configuration file.
struct Files(TempDir);

impl Files {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("relay.toml"), file).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The relay's program with this file.
    fn relay(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_converge-relay"));
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("CONVERGE_")) {
            command.env_remove(name);
        }
        command.current_dir(self.path()).stdin(Stdio::null()).args(["--config", "relay.toml"]);
        command
    }
}

/// Both outputs of a relay that does not start.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stdout.is_empty());
    stderr
}

#[test]
fn wrong_files_are_refused_with_their_place() {
    let files = Files::new("[listen]\nlisten = '127.0.0.1:0'\nhttps = true\n");
    let error = refused(&mut files.relay());
    assert!(error.contains("relay.toml:3:1: ") && error.contains("https"), "{error}");
}

#[test]
fn certificate_and_key_may_come_from_different_places_but_both_must() {
    let files = Files::new("[listen]\nlisten = '127.0.0.1:0'\n[tls]\ncert = 'missing.pem'\n");
    let error = refused(&mut files.relay());
    assert!(error.contains("--key ([tls] key in the file)"), "{error}");
    let error = refused(files.relay().env("CONVERGE_KEY", "missing.key"));
    assert!(error.contains("missing.pem") && error.contains("--cert ([tls] cert in the file)"), "{error}");
    assert!(!files.path().join("converge-relay-state").exists());
}
