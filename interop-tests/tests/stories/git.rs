//! git, through ssh with the block of `converge config`.

use anyhow::Result;
use converge_interop_tests::{
    Setup, files,
    process::{Output, run},
    programs,
};
use std::{fs, path::Path, process::Command};

on_both_carriers! { repository_is_cloned_and_pushed_to, history_goes_both_ways }

fn git(setup: &Setup, directory: &Path, arguments: &[&str]) -> Result<String> {
    Ok(try_git(setup, directory, arguments)?.success()?.text().trim().to_owned())
}

fn try_git(setup: &Setup, directory: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(programs::installed("git")?);
    command
        .current_dir(directory)
        .env("GIT_SSH_COMMAND", format!("ssh -F '{}'", setup.ssh_config()?.display()))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"])
        .args(arguments);
    run(&mut command, b"")
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

/// A commit on the current branch that adds a line to a file.
fn commit(setup: &Setup, repository: &Path, line: &str) -> Result<()> {
    let file = repository.join("history");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, format!("{before}{line}\n"))?;
    git(setup, repository, &["add", "."])?;
    git(setup, repository, &["commit", "--quiet", "-m", line])?;
    Ok(())
}

fn history_goes_both_ways(setup: &mut Setup) -> Result<()> {
    let (here, there) = (setup.path().to_owned(), setup.job().join("work"));
    // A work tree in the job, as CI makes it: a person fetches from it, and gives it a branch.
    fs::create_dir(&there)?;
    git(setup, &there, &["init", "--quiet"])?;
    for number in 0..20 {
        commit(setup, &there, &format!("line {number} of the job"))?;
    }
    git(setup, &there, &["tag", "-a", "-m", "ten commits ago", "v1", "HEAD~10"])?;
    let url = format!("{}:work", setup.host());
    git(setup, &here, &["clone", "--quiet", "--depth", "1", &url, "mine"])?;
    let mine = here.join("mine");
    let count = |repository: &Path| git(setup, repository, &["rev-list", "--count", "HEAD"]);
    assert_eq!(count(&mine)?, "1");
    git(setup, &mine, &["fetch", "--quiet", "--unshallow", "--tags"])?;
    assert_eq!(count(&mine)?, "20");
    let tagged = git(setup, &there, &["rev-parse", "HEAD~10"])?;
    assert_eq!(git(setup, &mine, &["rev-parse", "v1^{commit}"])?, tagged);

    // Both go on, and each gets what the other did.
    commit(setup, &there, "a fix in the job")?;
    git(setup, &mine, &["checkout", "--quiet", "-b", "mine"])?;
    commit(setup, &mine, "mine")?;
    git(setup, &mine, &["push", "--quiet", "origin", "mine"])?;
    git(setup, &mine, &["fetch", "--quiet", "origin"])?;
    for (one, two) in [("main", "origin/main"), ("mine", "mine")] {
        assert_eq!(
            git(setup, &there, &["rev-parse", one])?,
            git(setup, &mine, &["rev-parse", two])?,
            "{one}"
        );
    }
    // What git says there is said here.
    let refused = try_git(setup, &mine, &["push", "--force", "origin", "mine:main"])?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("remote: error: refusing to update checked out branch"),
        "{}",
        refused.stderr
    );
    git(setup, &mine, &["push", "--quiet", "origin", "--delete", "mine"])?;
    assert!(try_git(setup, &there, &["rev-parse", "--verify", "--quiet", "mine"])?.status.code() == Some(1));
    git(setup, &there, &["fsck", "--strict"])?;
    let missing = try_git(setup, &here, &["ls-remote", &format!("{}:missing", setup.host())])?;
    assert_eq!(missing.status.code(), Some(128), "{}", missing.stderr);
    Ok(())
}
