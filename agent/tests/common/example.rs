//! Programs of this crate that tests start.

use std::path::{Path, PathBuf};
use tokio::process::Command;

/// An example program, built now if this test program was built without it.
pub(crate) async fn example(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    let profile = program.parent().and_then(Path::parent).expect("a build directory");
    let example = profile.join("examples").join(name);
    if !example.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-p", "converge-agent", "--example", name]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().await.expect("cargo runs").success());
    }
    example
}
