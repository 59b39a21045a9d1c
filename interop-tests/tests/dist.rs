//! What `make dist` has built, as people get it: in roots with nothing in them, from a relay, and as an image.
//!
//! `make test-dist` runs this; `make test` does not, because the build takes minutes.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Process,
    process::{Output, eventually, run},
    programs,
    root::Root,
    setup::{make_key, show_logs},
};
use std::{
    env::{self, consts::ARCH},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Where the build is: `CONVERGE_DIST`, else where `make dist` puts it.
fn distribution() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist");
    env::var_os("CONVERGE_DIST").map_or(default, PathBuf::from)
}

fn program(name: &str) -> Result<PathBuf> {
    let path = distribution().join(format!("{name}-linux-{ARCH}"));
    fs::canonicalize(&path).with_context(|| format!("{} is not there; run: make dist", path.display()))
}

/// A root with only these of our programs, at its top.
fn root_with(names: &[&str]) -> Result<Root> {
    let root = Root::empty()?;
    for name in names {
        fs::copy(program(name)?, root.path().join(name))?;
    }
    Ok(root)
}

/// A relay in an empty root: no library, no device, no `/proc`, no hosts file.
struct EmptyRelay {
    /// Ended with the test, before its root is removed.
    _process: Process,
    root: Root,
    url: String,
    logs: TempDir,
}

impl EmptyRelay {
    fn start(prefix: &[String]) -> Result<Self> {
        let (root, logs) = (root_with(&["converge-relay"])?, tempfile::tempdir()?);
        let mut inside = root.command("/converge-relay")?;
        inside.args(["--listen", "127.0.0.1:0", "--state-dir", "/state"]);
        let mut process = Process::start("relay", &mut within(prefix, &inside), logs.path())?;
        let url = process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
        Ok(Self { _process: process, root, url, logs })
    }
}

impl Drop for EmptyRelay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(self.logs.path());
        }
    }
}

/// A command behind the words of another one that runs it, with the environment that it was given.
fn within(prefix: &[String], inner: &Command) -> Command {
    let mut words = prefix.iter().map(AsRef::as_ref).chain([inner.get_program()]).chain(inner.get_args());
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn every_program_runs_in_a_root_with_nothing_else_in_it() -> Result<()> {
    for name in ["converge", "converge-agent", "converge-relay"] {
        let root = root_with(&[name])?;
        let output = run(root.command(&format!("/{name}"))?.arg("--version"), b"")?.success()?;
        assert!(output.text().starts_with(&format!("{name} ")), "{}", output.text());
        // What paths and names of the building machine would give away.
        let text = String::from_utf8_lossy(&fs::read(program(name)?)?).into_owned();
        let home = env::var("HOME").unwrap_or_default();
        assert!(home.len() < 2 || !text.contains(&format!("{home}/")), "{name} names {home}");
    }
    Ok(())
}

#[test]
fn checksums_are_those_of_the_files() -> Result<()> {
    let mut check = Command::new(programs::installed("sha256sum")?);
    run(check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(distribution()), b"")?.success()?;
    Ok(())
}

/// The whole of it, with OpenSSH outside: keys, TLS, QUIC and files from a job that has nothing but its agent and a shell.
#[test]
fn a_job_without_anything_is_reached_through_a_relay_without_anything() -> Result<()> {
    let relay = EmptyRelay::start(&[])?;
    let job = root_with(&["converge-agent"])?;
    let outside = tempfile::tempdir()?;
    let key = outside.path().join("key");
    make_key(&key)?;
    fs::copy(key.with_extension("pub"), job.path().join(".authorized_keys"))?;
    job.write("report", "all is well\n")?;
    job.write("tmp/.keep", "")?;
    // An agent wants a shell; this one needs nothing else, either.
    fs::create_dir(job.path().join("bin"))?;
    fs::copy(programs::installed("busybox")?, job.path().join("bin/sh"))?;
    let mut command = job.command("/converge-agent")?;
    command.args(["--relay", &relay.url, "--hold", "--shells", "/bin/sh"]);
    let mut agent = Process::start("agent", &mut command, relay.logs.path())?;
    let address = agent.wait_for("its address", |line| {
        Some(line.trim().strip_prefix("converge ssh '")?.strip_suffix('\'')?.to_owned())
    })?;
    for carrier in ["quic", "websocket"] {
        let mut sftp = Command::new(program("converge")?);
        converge_interop_tests::setup::clean(&mut sftp);
        sftp.args(["--transport", carrier, "sftp", &address, "-b", "-"]);
        sftp.args(converge_interop_tests::setup::ssh_options(&key)).current_dir(outside.path());
        run(&mut sftp, b"get report\nput key.pub sent\n")?.success()?;
        assert_eq!(fs::read_to_string(outside.path().join("report"))?, "all is well\n");
        fs::remove_file(outside.path().join("report"))?;
        fs::remove_file(job.path().join("sent"))?;
    }
    // Nothing was made that the root did not have, but for the relay's own state.
    let made = relay.root.files()?;
    assert!(
        made.keys().all(|path| path.starts_with("state") || path == Path::new("converge-relay")),
        "{made:?}"
    );
    Ok(())
}

/// A network with nothing in it but loopback, where port 53 is free.
struct Network(Process);

impl Network {
    fn new(logs: &Path) -> Result<Self> {
        let mut command = Command::new(programs::installed("unshare")?);
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"]);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let mut process = Process::start("network", &mut command, logs)?;
        process.wait_for("that it is up", |line| (line == "up").then_some(()))?;
        Ok(Self(process))
    }

    fn enter(&self) -> Result<Vec<String>> {
        let nsenter = programs::installed("nsenter")?.display().to_string();
        Ok(vec![nsenter, format!("--net=/proc/{}/ns/net", self.0.id())])
    }
}

#[test]
fn names_are_found_with_two_files_and_a_name_server() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let network = Network::new(logs.path())?;
    let enter = network.enter()?;
    let relay = EmptyRelay::start(&enter)?;
    let (place, pin) = relay.url.split_once('#').context("a pin")?;
    let port = place.rsplit_once(':').context("a port")?.1;
    let mut dnsmasq = Command::new(programs::installed("dnsmasq")?);
    dnsmasq.args([
        "--keep-in-foreground",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
    ]);
    dnsmasq.args([
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--user=root",
        "--log-queries",
        "--log-facility=-",
    ]);
    dnsmasq.args(["--host-record=relay.ci.test,127.0.0.1,::1", "--cname=alias.ci.test,relay.ci.test"]);
    dnsmasq.args([
        "--address=/unrouted.test/2001:db8::1",
        "--host-record=unrouted.test,127.0.0.1",
        "--local=/test/",
    ]);
    let server = Process::start("dnsmasq", &mut within(&enter, &dnsmasq), logs.path())?;
    server.wait_for_log("that it serves", |log| log.contains("started"))?;

    let root = root_with(&["converge"])?;
    let doctor = |host: &str| -> Result<Output> {
        let mut inside = root.command("/converge")?;
        inside.args(["doctor", &format!("https://{host}:{port}#{pin}")]);
        run(&mut within(&enter, &inside), b"")
    };
    let dns = |output: &Output| {
        output.text().lines().find(|line| line.starts_with("dns ")).unwrap_or_default().to_owned()
    };
    let reaches = |host: &str, expected: &str| -> Result<()> {
        let output = doctor(host)?.success()?;
        assert!(
            dns(&output).contains("PASS") && dns(&output).contains(expected),
            "{host}: {}",
            output.text()
        );
        Ok(())
    };
    let does_not = |host: &str, words: &str| -> Result<()> {
        let output = doctor(host)?;
        // Its lines are as wide as a terminal.
        let said = output.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!output.status.success() && said.contains(words), "{host}: {}", output.text());
        Ok(())
    };
    // Neither file: what needs none works, and the rest says what is missing.
    reaches("127.0.0.1", "127.0.0.1")?;
    reaches("localhost", "127.0.0.1")?;
    does_not("relay.ci.test", "no name server is known from /etc/resolv.conf")?;
    // The hosts file alone.
    root.write("etc/hosts", "127.0.0.1 listed.example other # of them\n")?;
    reaches("listed.example", "127.0.0.1")?;
    reaches("OTHER", "127.0.0.1")?;
    // Both: the hosts file goes first, then the name server, with the search list.
    root.write(
        "etc/resolv.conf",
        "search none.test ci.test\nnameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
    )?;
    reaches("relay.ci.test", "127.0.0.1")?;
    reaches("alias.ci.test", "127.0.0.1")?;
    reaches("relay", "127.0.0.1")?;
    reaches("listed.example", "127.0.0.1")?;
    assert!(!server.log().contains("listed.example"), "the name server was asked: {}", server.log());
    // A first address that no packet can be sent to does not keep it from the second.
    reaches("unrouted.test", "127.0.0.1")?;
    does_not("nobody.ci.test", "there is no such name")?;
    // Nobody is there to be asked.
    root.write("etc/resolv.conf", "nameserver 127.0.0.9\noptions timeout:1 attempts:1\n")?;
    does_not("relay.ci.test", "name server")?;
    Ok(())
}

#[test]
fn a_relay_hands_them_out_and_they_run_where_there_is_no_library() -> Result<()> {
    let root = root_with(&["converge-relay"])?;
    let logs = tempfile::tempdir()?;
    fs::create_dir(root.path().join("downloads"))?;
    for entry in fs::read_dir(distribution())? {
        let path = entry?.path();
        fs::copy(&path, root.path().join("downloads").join(path.file_name().context("a name")?))?;
    }
    let mut command = root.command("/converge-relay")?;
    command.args(["--listen", "127.0.0.1:0", "--state-dir", "/state", "--downloads", "/downloads"]);
    let mut process = Process::start("relay", &mut command, logs.path())?;
    let url = process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
    let (page, pin) = url.split_once("#pin-sha256=").context("a pin")?;
    let pin = format!("sha256//{}=", pin.replace('-', "+").replace('_', "/"));

    let person =
        Root::with(&["sh=dash", "curl", "uname", "chmod", "mv", "rm", "mkdir", "cat", "grep", "sha256sum"])?;
    let line = format!("curl -fsSLk --pinnedpubkey '{pin}' {page}/install.sh | sh -s -- all");
    let output = run(person.command("/bin/sh")?.args(["-c", &line]), b"")?.success()?;
    for name in ["converge", "converge-agent", "converge-relay"] {
        let installed = format!("home/.local/bin/{name}");
        assert!(output.stderr.contains(&format!("installed /{installed} ({name} ")), "{}", output.stderr);
        assert_eq!(fs::read(person.path().join(&installed))?, fs::read(program(name)?)?);
    }
    let doctor = run(person.command("/home/.local/bin/converge")?.args(["doctor", &url]), b"")?.success()?;
    assert!(doctor.text().contains("verdict: sessions use QUIC"), "{}", doctor.text());
    Ok(())
}

/// What makes podman do without everything that a test needs no root, network or system service for.
const PODMAN: &str = r#"
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "crun"
"#;

#[test]
fn image_has_the_relay_as_nobody_in_particular() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let here = directory.path().display();
    fs::write(directory.path().join("containers.conf"), PODMAN)?;
    let podman = directory.path().join("podman");
    // As in the agent's tests: crun wants to see control groups of one version only.
    let script = format!(
        "#!/bin/sh\nexport CONTAINERS_CONF={here}/containers.conf\n\
         set -- podman --root {here}/root --runroot {here}/run --tmpdir {here}/tmp --storage-driver vfs \"$@\"\n\
         [ -d /sys/fs/cgroup/unified ] || exec \"$@\"\n\
         exec unshare -m sh -c 'mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"' sh \"$@\"\n"
    );
    fs::write(&podman, script)?;
    fs::set_permissions(&podman, PermissionsExt::from_mode(0o755))?;
    let mut build = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image"));
    build
        .arg("converge-relay:test")
        .env("CONVERGE_CONTAINER_TOOL", &podman)
        .env("CONVERGE_DIST", distribution());
    run(&mut build, b"")?.success()?;

    let mut relay = Command::new(&podman);
    relay.args([
        "run",
        "--rm",
        "--name",
        "relay",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
    ]);
    relay.args(["--volume", "state:/state", "converge-relay:test", "--listen", "127.0.0.1:0"]);
    let mut process = Process::start("relay", &mut relay, directory.path())?;
    let url = process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
    let mut doctor = Command::new(program("converge")?);
    run(converge_interop_tests::setup::clean(doctor.args(["doctor", &url])), b"")?.success()?;
    let inspect = ["inspect", "--format", "{{.State.Pid}}", "relay"];
    let inside = run(Command::new(&podman).args(inspect), b"")?.success()?.text();
    let status = fs::read_to_string(format!("/proc/{}/status", inside.trim()))?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("no user")?;
    assert!(user.split_whitespace().all(|id| id == "65532"), "{user}");
    // SIGTERM is what it is stopped with, and the state is there again for the next one.
    run(Command::new(&podman).args(["stop", "--time", "30", "relay"]), b"")?.success()?;
    assert!(eventually("its end", || process.try_wait().ok().flatten())?.success());
    let mut again = Process::start("relay-again", &mut relay, directory.path())?;
    let second = again.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
    let pin = |url: &str| url.split_once('#').map(|(_, pin)| pin.to_owned());
    assert_eq!(pin(&second), pin(&url));
    run(Command::new(&podman).args(["stop", "--time", "30", "relay"]), b"")?.success()?;
    Ok(())
}
