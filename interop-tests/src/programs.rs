//! Where the programs are that are run.

use anyhow::{Context, Result, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// One of our own programs, from the same build as the running one.
///
/// # Errors
/// When it has not been built.
pub fn own(name: &str) -> Result<PathBuf> {
    let running = env::current_exe().context("cannot find the running program")?;
    // target/debug/demo, or target/debug/deps/stories-0123.
    let found =
        running.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found
        .with_context(|| format!("{name} is not built beside {}; run: cargo build --bins", running.display()))
}

/// A program of the system.
///
/// # Errors
/// When it is not installed.
pub fn installed(name: &str) -> Result<PathBuf> {
    // Where servers are that a plain user has no use for.
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    // Where `scripts/install-tools` puts what Debian does not have.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(more)
        .chain([own])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed; run: scripts/install-tools"))
}

/// A program of the Python environment that `scripts/install-tools` makes, such as `python` itself.
///
/// # Errors
/// When it is not there.
pub fn from_pypi(name: &str) -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/python/bin").join(name);
    if !program.is_file() {
        bail!("{} is not installed; run: scripts/install-tools test", program.display());
    }
    Ok(program)
}

/// A program of the Python environment with what looks at `deploy/`.
///
/// # Errors
/// When it is not there.
pub fn for_deploy(name: &str) -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/deploy/bin").join(name);
    if !program.is_file() {
        bail!("{} is not installed; run: scripts/install-tools test", program.display());
    }
    Ok(program)
}

/// The first line a program prints about its version.
///
/// # Errors
/// When it cannot be run.
pub fn version(program: &Path, flag: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(flag)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let Some(line) = String::from_utf8_lossy(&text).lines().next().map(str::to_owned) else {
        bail!("{} says nothing about its version", program.display());
    };
    Ok(line)
}
