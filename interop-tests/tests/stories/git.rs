//! git, through ssh with the block of `converge config`.

use anyhow::Result;
use converge_interop_tests::{Setup, files, process::run, programs};
use std::{path::Path, process::Command};

on_both_carriers! { repository_is_cloned_and_pushed_to }

fn git(setup: &Setup, directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(programs::installed("git")?);
    command
        .current_dir(directory)
        .env("GIT_SSH_COMMAND", format!("ssh -F '{}'", setup.ssh_config()?.display()))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"])
        .args(arguments);
    Ok(run(&mut command, b"")?.success()?.text().trim().to_owned())
}

fn repository_is_cloned_and_pushed_to(setup: &mut Setup) -> Result<()> {
    let here = setup.path().to_owned();
    git(setup, &setup.job(), &["init", "--quiet", "--bare", "repository.git"])?;
    let url = format!("{}:repository.git", setup.host());
    git(setup, &here, &["clone", "--quiet", &url, "first"])?;
    let first = here.join("first");
    files::write_tree(&first.join("tree"))?;
    files::write_random(&first.join("large"), 5_000_000)?;
    git(setup, &first, &["add", "."])?;
    git(setup, &first, &["commit", "--quiet", "-m", "all of it"])?;
    git(setup, &first, &["push", "--quiet", "origin", "HEAD:main"])?;
    let head = git(setup, &first, &["rev-parse", "HEAD"])?;
    assert_eq!(git(setup, &setup.job().join("repository.git"), &["rev-parse", "main"])?, head);

    let url = format!("ssh://{}{}/repository.git", setup.host(), setup.job().canonicalize()?.display());
    git(setup, &here, &["clone", "--quiet", "--branch", "main", &url, "second"])?;
    let second = here.join("second");
    assert_eq!(git(setup, &second, &["rev-parse", "HEAD"])?, head);
    assert_eq!(files::sha256(&second.join("large"))?, files::sha256(&first.join("large"))?);
    git(setup, &second, &["fsck", "--strict"])?;
    Ok(())
}
