//! rsync, through ssh with the block of `converge config`.

use anyhow::Result;
use converge_interop_tests::{
    Setup, files,
    process::{Output, run},
    programs,
};
use std::{fs, process::Command};

on_both_carriers! { tree_is_mirrored_both_ways }

fn rsync(setup: &Setup, arguments: &[&str]) -> Result<Output> {
    let ssh = format!("ssh -F '{}'", setup.ssh_config()?.display());
    let mut command = Command::new(programs::installed("rsync")?);
    run(command.current_dir(setup.path()).args(["-a", "--stats", "-e", &ssh]).args(arguments), b"")?.success()
}

fn tree_is_mirrored_both_ways(setup: &mut Setup) -> Result<()> {
    let tree = setup.path().join("tree");
    files::write_tree(&tree)?;
    files::write_random(&tree.join("large"), 20_000_000)?;
    let there = format!("{}:mirror/", setup.host());
    rsync(setup, &["tree/", &there])?;
    let mirror = setup.job().join("mirror");
    assert_eq!(files::sha256_of_tree(&mirror)?, files::sha256_of_tree(&tree)?);

    // A second time, only what differs.
    fs::remove_file(tree.join("empty"))?;
    fs::write(tree.join("new"), "new\n")?;
    let output = rsync(setup, &["--delete", "tree/", &there])?;
    assert!(output.text().contains("Number of regular files transferred: 1"), "{}", output.text());
    assert_eq!(files::sha256_of_tree(&mirror)?, files::sha256_of_tree(&tree)?);

    rsync(setup, &["-z", &there, "back/"])?;
    assert_eq!(files::sha256_of_tree(&setup.path().join("back"))?, files::sha256_of_tree(&tree)?);
    Ok(())
}
