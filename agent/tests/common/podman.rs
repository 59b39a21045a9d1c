//! Real containers: podman with an image, a store and a container of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use converge_agent::place::{Place, PlaceConfig, Target, Tool, ToolKind};
use tempfile::TempDir;
use tokio::process::Command;

use super::{run, success};

/// The container's programs; all of them are Debian's static busybox.
const APPLETS: [&str; 29] = [
    "cat",
    "chmod",
    "cp",
    "dd",
    "echo",
    "env",
    "grep",
    "head",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "stty",
    "tail",
    "test",
    "touch",
    "true",
    "tty",
    "wc",
];

/// What makes podman do without everything that a test needs no root, network or system service for.
///
/// Limits are lower than any machine has, since raising them is not allowed everywhere.
const CONFIGURATION: &str = r#"
[containers]
cgroups = "disabled"
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "crun"
"#;

/// A podman that knows nothing but what the test made, and one container `web` in it, which does not run yet.
pub(crate) struct Podman {
    dir: TempDir,
}

impl Podman {
    /// Makes an image of busybox and of these files of this machine, each at the same place in it.
    pub(crate) async fn new(files: &[PathBuf]) -> Self {
        let podman = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        let path = podman.dir.path();
        std::fs::write(path.join("containers.conf"), CONFIGURATION).expect("the file can be written");
        podman.write_program();
        let root = path.join("image");
        for directory in ["bin", "tmp", "etc", "root", "proc", "dev"] {
            std::fs::create_dir_all(root.join(directory)).expect("the directory can be made");
        }
        std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("a mode");
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("a file");
        copy(Path::new("/bin/busybox"), &root.join("bin/busybox"));
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link can be made");
        }
        for file in files {
            copy(file, &root.join(file.strip_prefix("/").expect("an absolute path")));
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf"]).arg(path.join("image.tar")).arg(".");
        success(&run(tar, b"").await);
        success(
            &podman
                .run(&["import", "--quiet", path.join("image.tar").to_str().expect("UTF-8"), "image"])
                .await,
        );
        std::fs::remove_dir_all(root).expect("the directory can be removed");
        podman
    }

    /// With a container that runs.
    pub(crate) async fn running(files: &[PathBuf]) -> Self {
        let podman = Self::new(files).await;
        podman.start().await;
        podman
    }

    /// Makes the container and starts it.
    pub(crate) async fn start(&self) {
        let container =
            ["run", "--detach", "--name", "web", "--env", "OF_THE_IMAGE=yes", "--env", "dir=theirs"];
        let output = self
            .run(&[&container[..], &["image", "sh", "-c", "while :; do sleep 1000; done"]].concat())
            .await;
        success(&output);
    }

    /// Where the container's programs run.
    pub(crate) fn place(&self, configure: impl FnOnce(&mut PlaceConfig)) -> Place {
        let tool = Tool::new(ToolKind::Podman, self.program());
        let mut config = PlaceConfig::new(Target::Container("web".parse().expect("a name")), vec![tool]);
        configure(&mut config);
        Place::new(config).expect("a place")
    }

    /// Runs podman.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut podman = Command::new(self.program());
        podman.args(arguments).kill_on_drop(true);
        run(podman, b"").await
    }

    /// The output of a command in the container.
    pub(crate) async fn inside(&self, line: &str) -> String {
        success(&self.run(&["exec", "web", "sh", "-c", line]).await)
    }

    /// Waits until the container has a process with this in its command line, or until it has none.
    pub(crate) async fn until_process(&self, what: &str, is_there: bool) {
        let looking = async {
            loop {
                let processes = self.inside("ps").await;
                if processes.lines().any(|line| line.contains(what)) == is_there {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(super::PATIENCE, looking).await.is_ok();
        assert!(in_time, "{what}, there: {is_there}, is not so: {}", self.inside("ps").await);
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("podman")
    }

    /// A script, because the agent calls its tool without options of a test. Where control groups are of two
    /// versions at once, which crun refuses, podman is shown none but those of the second version.
    fn write_program(&self) {
        let dir = self.dir.path().display();
        let script = format!(
            "#!/bin/sh\n\
             export CONTAINERS_CONF={dir}/containers.conf\n\
             set -- podman --root {dir}/root --runroot {dir}/run --tmpdir {dir}/tmp --storage-driver vfs \"$@\"\n\
             [ -d /sys/fs/cgroup/unified ] || exec \"$@\"\n\
             exec unshare -m sh -c 'mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"' sh \"$@\"\n"
        );
        std::fs::write(self.program(), script).expect("the file can be written");
        std::fs::set_permissions(self.program(), PermissionsExt::from_mode(0o755)).expect("a mode");
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let removed = std::process::Command::new(self.program())
            .args(["rm", "--all", "--force", "--time", "0"])
            .output();
        if !std::thread::panicking() {
            assert!(removed.is_ok_and(|output| output.status.success()), "the container can be removed");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("a directory")).expect("the directory can be made");
    std::fs::copy(from, to).unwrap_or_else(|error| panic!("{} can be copied: {error}", from.display()));
}

/// The files that a program needs to run: itself and its libraries.
pub(crate) async fn with_libraries(program: &Path) -> Vec<PathBuf> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    let listed = success(&run(ldd, b"").await);
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    libraries.chain([program.to_owned()]).collect()
}
