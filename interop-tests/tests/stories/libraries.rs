//! Programs with an ssh of their own, by libraries that are not OpenSSH.

use anyhow::Result;
use converge_interop_tests::{Setup, files, loopback::echo, process::run, programs};
use std::{path::Path, process::Command};

on_both_carriers! { paramiko_does_all_it_can, asyncssh_does_all_it_can }

fn paramiko_does_all_it_can(setup: &mut Setup) -> Result<()> {
    play(setup, "paramiko_client.py")
}

fn asyncssh_does_all_it_can(setup: &mut Setup) -> Result<()> {
    play(setup, "asyncssh_client.py")
}

/// Runs one of the scripts beside this file. It looks itself at what comes back; here it is seen what came to be.
fn play(setup: &Setup, script: &str) -> Result<()> {
    let (sent, back) = (setup.path().join("sent"), setup.path().join("back"));
    files::write_random(&sent, 5_000_003)?;
    let mut python = Command::new(programs::from_pypi("python")?);
    python
        .current_dir(setup.path())
        .env_remove("SSH_AUTH_SOCK")
        .env("HOME", setup.path())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories").join(script))
        .arg(setup.key())
        .arg(setup.known_hosts("job")?)
        .arg(echo()?.to_string())
        .args(setup.proxy_command()?);
    let output = run(&mut python, b"")?.success()?;
    // A script that was left early by mistake would say nothing wrong.
    assert!(output.text().ends_with("all done\n"), "{}{}", output.text(), output.stderr);
    let wanted = files::sha256(&sent)?;
    assert_eq!(files::sha256(&setup.job().join("there"))?, wanted);
    assert_eq!(files::sha256(&back)?, wanted);
    Ok(())
}
