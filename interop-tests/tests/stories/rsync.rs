//! rsync, through ssh with the block of `converge config`.

use anyhow::Result;
use converge_interop_tests::{
    Setup, files,
    process::{Output, run},
    programs,
};
use std::{fs, path::Path, process::Command};

on_both_carriers! { tree_is_mirrored_both_ways, ten_thousand_files_are_mirrored_both_ways }

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

/// Directories, and files in each.
const MANY: (usize, usize) = (100, 100);

fn write_many(root: &Path) -> Result<()> {
    for directory in 0..MANY.0 {
        let directory = root.join(format!("directory {directory}"));
        fs::create_dir_all(&directory)?;
        for file in 0..MANY.1 {
            fs::write(directory.join(file.to_string()), format!("{file} of {}", directory.display()))?;
        }
    }
    Ok(())
}

fn ten_thousand_files_are_mirrored_both_ways(setup: &mut Setup) -> Result<()> {
    let (tree, mirror) = (setup.path().join("tree"), setup.job().join("mirror"));
    write_many(&tree)?;
    let there = format!("{}:mirror/", setup.host());
    let output = rsync(setup, &["--delete", "tree/", &there])?;
    assert!(output.text().contains("Number of regular files transferred: 10,000"), "{}", output.text());
    assert_eq!(files::sha256_of_tree(&mirror)?, files::sha256_of_tree(&tree)?);

    for number in 0..MANY.0 {
        let directory = tree.join(format!("directory {number}"));
        fs::write(directory.join("7"), format!("changed, and longer than it was: {number}"))?;
        fs::remove_file(directory.join("8"))?;
        fs::rename(directory.join("9"), directory.join("moved"))?;
    }
    fs::remove_dir_all(tree.join("directory 3"))?;
    let output = rsync(setup, &["--delete", "tree/", &there])?;
    assert!(output.text().contains("Number of regular files transferred: 198"), "{}", output.text());
    // Two in each directory, and one directory with what was in it.
    assert!(output.text().contains("Number of deleted files: 299 (reg: 298, dir: 1)"), "{}", output.text());
    let wanted = files::sha256_of_tree(&tree)?;
    assert_eq!(files::sha256_of_tree(&mirror)?, wanted);

    // Down, into what is not the same.
    let back = setup.path().join("back");
    fs::create_dir_all(back.join("directory 3"))?;
    fs::write(back.join("directory 3").join("old"), "old")?;
    rsync(setup, &["--delete", &there, "back/"])?;
    assert_eq!(files::sha256_of_tree(&back)?, wanted);
    Ok(())
}
