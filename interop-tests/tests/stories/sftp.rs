//! OpenSSH's sftp.

use anyhow::Result;
use converge_interop_tests::{
    Setup, files,
    process::{Output, run},
};
use std::{fs, io::Write, path::Path};

on_both_carriers! {
    large_file_arrives_whole_both_ways,
    cut_transfers_are_resumed,
    directories_are_copied_with_all_that_is_in_them,
    batch_stops_at_its_first_failure,
}

const LARGE_BYTES: u64 = 64 * 1024 * 1024;

fn batch(setup: &Setup, commands: &str) -> Result<Output> {
    run(setup.openssh("sftp")?.args(["-b", "-"]), commands.as_bytes())
}

fn large_file_arrives_whole_both_ways(setup: &mut Setup) -> Result<()> {
    let (here, there, back) =
        (setup.path().join("here"), setup.job().join("there"), setup.path().join("back"));
    files::write_random(&here, LARGE_BYTES)?;
    batch(setup, "put here there\nget there back\n")?.success()?;
    let wanted = files::sha256(&here)?;
    assert_eq!(files::sha256(&there)?, wanted);
    assert_eq!(files::sha256(&back)?, wanted);
    Ok(())
}

/// The first part of a file, as a transfer that was cut leaves it.
fn write_part(whole: &Path, part: &Path, bytes: usize) -> Result<()> {
    Ok(fs::write(part, &fs::read(whole)?[..bytes])?)
}

fn cut_transfers_are_resumed(setup: &mut Setup) -> Result<()> {
    let (here, there, back) =
        (setup.path().join("here"), setup.job().join("there"), setup.path().join("back"));
    files::write_random(&here, 8_000_001)?;
    write_part(&here, &there, 3_000_001)?;
    // What is there already is not sent again: a byte that differs stays.
    let mut part = fs::OpenOptions::new().write(true).open(&there)?;
    let first = !fs::read(&here)?[0];
    part.write_all(&[first])?;
    batch(setup, "reput here there\n")?.success()?;
    let mut wanted = fs::read(&here)?;
    wanted[0] = first;
    assert_eq!(files::sha256(&there)?, files::sha256_of(&wanted));

    write_part(&there, &back, 5_000_000)?;
    batch(setup, "reget there back\n")?.success()?;
    assert_eq!(files::sha256(&back)?, files::sha256_of(&wanted));
    Ok(())
}

fn directories_are_copied_with_all_that_is_in_them(setup: &mut Setup) -> Result<()> {
    let tree = setup.path().join("tree");
    files::write_tree(&tree)?;
    batch(setup, "put -rp tree copy\nget -rp copy back\n")?.success()?;
    let wanted = files::sha256_of_tree(&tree)?;
    assert_eq!(files::sha256_of_tree(&setup.job().join("copy"))?, wanted);
    assert_eq!(files::sha256_of_tree(&setup.path().join("back"))?, wanted);
    let commands = "mkdir new\nrename copy/empty new/moved\nsymlink moved new/link\nchmod 640 new/moved\nls -1 new\n\
                    rm new/link\nrm new/moved\nrmdir new\ncd copy\npwd\n";
    let output = batch(setup, commands)?.success()?;
    assert!(output.text().contains("new/link"), "{}", output.text());
    let copy = setup.job().join("copy").canonicalize()?;
    assert!(
        output.text().contains(&format!("Remote working directory: {}", copy.display())),
        "{}",
        output.text()
    );
    assert!(!setup.job().join("new").exists());
    // A path on the command line is where it starts.
    let listed = run(setup.openssh("sftp")?.args(["-b", "-", ":copy"]), b"ls -1\n")?.success()?;
    assert!(listed.text().contains("deep"), "{}", listed.text());
    Ok(())
}

fn batch_stops_at_its_first_failure(setup: &mut Setup) -> Result<()> {
    let output = batch(setup, "mkdir one\nrm missing\nmkdir two\n")?;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("missing"), "{}", output.stderr);
    assert!(setup.job().join("one").is_dir() && !setup.job().join("two").exists());
    batch(setup, "-rm missing\nmkdir two\n")?.success()?;
    assert!(setup.job().join("two").is_dir());
    Ok(())
}
