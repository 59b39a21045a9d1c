//! OpenSSH's scp, over SFTP as it does by itself now, and over its old protocol.

use anyhow::Result;
use converge_interop_tests::{Setup, files, process::run};
use std::fs;

on_both_carriers! { files_and_trees_go_both_ways_over_sftp, files_and_trees_go_both_ways_over_the_old_protocol }

fn files_and_trees_go_both_ways_over_sftp(setup: &mut Setup) -> Result<()> {
    both_ways(setup, &["-p"])
}

fn files_and_trees_go_both_ways_over_the_old_protocol(setup: &mut Setup) -> Result<()> {
    both_ways(setup, &["-p", "-O"])
}

fn both_ways(setup: &Setup, options: &[&str]) -> Result<()> {
    let scp = |arguments: &[&str]| run(setup.openssh("scp")?.args(options).args(arguments), b"")?.success();
    let here = setup.path().join("here");
    files::write_random(&here, 10_000_000)?;
    scp(&["here", ":there"])?;
    scp(&[":there", "back"])?;
    let wanted = files::sha256(&here)?;
    let (there, back) = (setup.job().join("there"), setup.path().join("back"));
    assert_eq!(files::sha256(&there)?, wanted);
    assert_eq!(files::sha256(&back)?, wanted);
    let seconds =
        |path| anyhow::Ok(fs::metadata(path)?.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_secs());
    assert_eq!(seconds(&back)?, seconds(&here)?, "-p keeps times");

    let tree = setup.path().join("tree");
    files::write_tree(&tree)?;
    scp(&["-r", "tree", ":copy"])?;
    scp(&["-r", ":copy", "tree-back"])?;
    let wanted = files::sha256_of_tree(&tree)?;
    assert_eq!(files::sha256_of_tree(&setup.job().join("copy"))?, wanted);
    assert_eq!(files::sha256_of_tree(&setup.path().join("tree-back"))?, wanted);

    let missing = run(setup.openssh("scp")?.args(options).args([":missing", "x"]), b"")?;
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stderr.contains("No such file"), "{}", missing.stderr);
    Ok(())
}
