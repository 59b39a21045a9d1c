//! sshfs.

use anyhow::Result;
use converge_interop_tests::{Process, Setup, files, process::run, programs};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

on_both_carriers! { job_is_mounted_read_and_written }

/// A mounted file system, until the end of the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(program) = programs::installed("fusermount3") {
            // What cannot be unmounted ends with the agent.
            let _ = run(Command::new(program).arg("-u").arg(&self.0), b"");
        }
    }
}

fn job_is_mounted_read_and_written(setup: &mut Setup) -> Result<()> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        skipped(&format!("/dev/fuse cannot be opened: {error}"));
        return Ok(());
    }
    let there = setup.path().join("mounted");
    fs::create_dir(&there)?;
    let mut command = Command::new(programs::installed("sshfs")?);
    command.arg("-F").arg(setup.ssh_config()?).arg(format!("{}:", setup.host())).arg(&there);
    // It ends when the file system is mounted; a part of it stays in the background.
    let mut sshfs = Process::start("sshfs", &mut command, setup.path())?;
    if !sshfs.wait()?.success() {
        let log = sshfs.log();
        assert!(log.contains("mount failed") || log.contains("fusermount3"), "{log}");
        skipped(&format!("this machine does not let file systems be mounted: {log}"));
        return Ok(());
    }
    let mounted = Mounted(there.clone());
    use_files(setup, &there)?;
    drop(mounted);
    Ok(())
}

fn use_files(setup: &Setup, there: &Path) -> Result<()> {
    let here = setup.path().join("here");
    files::write_random(&here, 20_000_000)?;
    fs::copy(&here, there.join("copy"))?;
    let wanted = files::sha256(&here)?;
    assert_eq!(files::sha256(&setup.job().join("copy"))?, wanted);
    fs::rename(setup.job().join("copy"), setup.job().join("there"))?;
    assert_eq!(files::sha256(&there.join("there"))?, wanted);

    let tree = there.join("tree");
    files::write_tree(&tree)?;
    assert_eq!(files::sha256_of_tree(&tree)?, files::sha256_of_tree(&setup.job().join("tree"))?);
    std::os::unix::fs::symlink("there", there.join("link"))?;
    assert_eq!(fs::read_link(setup.job().join("link"))?, Path::new("there"));
    fs::remove_dir_all(&tree)?;
    assert!(!setup.job().join("tree").exists());
    Ok(())
}

/// Said past the test runner's silence.
fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: sshfs: {why}");
}
