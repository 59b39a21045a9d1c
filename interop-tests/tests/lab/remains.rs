//! A lab leaves nothing behind, and neither does a killed one.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Lab,
    lab::Access,
    process::{Leftover, eventually, is_running, run},
    programs,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

fn networks() -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[test]
fn lab_ends_with_everything_that_runs_in_it() -> Result<()> {
    let lab = Lab::with_access("ends", Access::Nat, Access::HttpProxy)?;
    let (directory, job) = (lab.path().to_owned(), lab.job().network_name().to_owned());
    assert!(networks().contains(&job) && directory.exists());
    // As an agent's children, of which nobody is told.
    let orphan =
        lab.job().run(Command::new("sh").args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]), b"")?;
    let orphan = Leftover(orphan.success()?.text().trim().parse()?);
    assert!(is_running(orphan.0));
    drop(lab);
    eventually("its end", || (!is_running(orphan.0)).then_some(()))?;
    assert!(!networks().contains(&job) && !directory.exists());
    Ok(())
}

#[test]
fn what_a_killed_test_left_is_removed_by_the_next_lab() -> Result<()> {
    // What a machine lacks that cannot have a lab, a lab says best.
    drop(Lab::new("before")?);
    let mut ended = Command::new("true").stdin(Stdio::null()).spawn()?;
    ended.wait()?;
    let stale = format!("converge-lab-{}-relay", ended.id());
    let ip = programs::installed("ip")?;
    run(Command::new(&ip).args(["netns", "add", &stale]), b"")?.success()?;
    // It says itself that it is inside.
    let mut orphan = Command::new(&ip);
    orphan.args(["netns", "exec", &stale, "sh", "-c", "echo inside; exec sleep 1000"]).stdout(Stdio::piped());
    let mut orphan = orphan.spawn()?;
    let mut line = String::new();
    BufReader::new(orphan.stdout.take().context("it is piped")?).read_line(&mut line)?;
    assert_eq!(line, "inside\n");
    let lab = Lab::new("after")?;
    assert!(!networks().contains(&stale));
    assert!(!orphan.wait()?.success(), "what ran there was killed");
    assert!(networks().iter().any(|name| name == lab.job().network_name()));
    Ok(())
}
