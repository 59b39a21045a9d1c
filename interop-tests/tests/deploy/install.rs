//! `install.sh` of a relay, in roots that have a shell, little else, and no certificate of anybody.

use anyhow::Result;
use converge_interop_tests::{
    Process, Relay,
    process::{Output, run},
    programs,
    root::Root,
    setup::show_logs,
};
use std::{env::consts::ARCH, fs, path::Path, process::Command};
use tempfile::TempDir;

/// What the script calls, beside a shell and something that fetches.
const TOOLS: [&str; 8] = ["uname", "chmod", "mv", "rm", "mkdir", "cat", "grep", "sha256sum"];

/// A relay with a self-signed certificate that offers the programs of this build.
struct Offer {
    relay: Relay,
    directory: TempDir,
}

impl Offer {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let downloads = directory.path().join("downloads");
        fs::create_dir(&downloads)?;
        for program in ["converge", "converge-agent"] {
            fs::copy(programs::own(program)?, downloads.join(format!("{program}-linux-{ARCH}")))?;
        }
        let arguments = ["--downloads".into(), downloads.into_os_string()];
        let relay = Relay::start_with(directory.path(), "127.0.0.1:0", arguments)?;
        Ok(Self { relay, directory })
    }

    /// `https://127.0.0.1:PORT` and the pin as curl writes it.
    fn place(&self) -> (&str, String) {
        let (page, pin) = self.relay.url.split_once("#pin-sha256=").expect("a self-signed relay has a pin");
        (page, format!("sha256//{}=", pin.replace('-', "+").replace('_', "/")))
    }

    /// The line of the relay's page, with what follows `sh -s --`.
    fn line(&self, arguments: &str) -> String {
        let (page, pin) = self.place();
        format!("curl -fsSLk --pinnedpubkey '{pin}' '{page}/install.sh' | sh -s -- {arguments}")
    }

    fn download(&self, program: &str) -> std::path::PathBuf {
        self.directory.path().join(format!("downloads/{program}-linux-{ARCH}"))
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(self.directory.path());
        }
    }
}

/// With what our programs need where they are not static.
fn root(shell: &str, fetcher: &[&str]) -> Result<Root> {
    let programs = [&[shell][..], &TOOLS, fetcher].concat();
    let root = Root::with(&programs)?;
    root.add_libraries_of(&programs::own("converge-agent")?)?;
    Ok(root)
}

fn sh(root: &Root, line: &str) -> Result<Output> {
    run(root.command("/bin/sh")?.args(["-c", line]), b"")
}

#[track_caller]
fn fails_with(output: &Output, words: &str) {
    assert!(
        !output.status.success() && output.stderr.contains(words),
        "{}: {}",
        output.status,
        output.stderr
    );
}

#[test]
fn one_line_installs_the_client_and_writes_nothing_else() -> Result<()> {
    let offer = Offer::start()?;
    for shell in ["sh=dash", "sh=bash", "sh=busybox"] {
        let root = root(shell, &["curl"])?;
        let before = root.files()?;
        let output = sh(&root, &offer.line(""))?.success()?;
        assert!(
            output.stderr.contains("installed /home/.local/bin/converge (converge "),
            "{}",
            output.stderr
        );
        assert!(output.stderr.contains("export PATH=\"/home/.local/bin:$PATH\""), "{}", output.stderr);
        let mut after = root.files()?;
        after.retain(|path, told| before.get(path) != Some(told) && path != Path::new("home"));
        let new: Vec<_> = after.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(new, ["home/.local", "home/.local/bin", "home/.local/bin/converge"], "{shell}");
        assert_eq!(after[Path::new("home/.local/bin/converge")].0, 0o755);
    }
    Ok(())
}

#[test]
fn programs_directory_and_default_relay_can_be_chosen() -> Result<()> {
    let offer = Offer::start()?;
    let root = root("sh=dash", &["curl"])?;
    let line = offer.line("agent client --dir /bin --save-relay");
    let output = sh(&root, &line)?.success()?;
    for program in ["converge", "converge-agent"] {
        assert!(output.stderr.contains(&format!("installed /bin/{program} ")), "{}", output.stderr);
    }
    assert!(!output.stderr.contains("PATH"), "it is on the PATH: {}", output.stderr);
    let config = root.path().join("home/.config/converge/config.toml");
    assert_eq!(fs::read_to_string(&config)?, format!("relay = \"{}\"\n", offer.relay.url));

    // Again, over programs that are there, and with a choice of the user's own.
    fs::write(&config, "relay = \"https://mine.example\"\n")?;
    let output = sh(&root, &line)?.success()?;
    assert!(output.stderr.contains("is there already and stays as it is"), "{}", output.stderr);
    assert_eq!(fs::read_to_string(&config)?, "relay = \"https://mine.example\"\n");

    let mut command = root.command("/bin/sh")?;
    command.env("CONVERGE_INSTALL_DIR", "/home/there").args(["-c", &offer.line("agent")]);
    run(&mut command, b"")?.success()?;
    assert!(root.path().join("home/there/converge-agent").exists());
    // What was installed runs, and knows the relay by the file.
    fs::write(&config, format!("relay = \"{}\"\n", offer.relay.url))?;
    let doctor = run(root.command("/bin/converge")?.arg("doctor"), b"")?.success()?;
    assert!(doctor.text().contains("verdict: sessions use QUIC"), "{}{}", doctor.text(), doctor.stderr);
    Ok(())
}

#[test]
fn wget_will_do_because_the_checksums_are_in_the_script() -> Result<()> {
    let offer = Offer::start()?;
    let (page, _) = offer.place();
    let root = root("sh=dash", &["wget"])?;
    let line = format!("wget -q -O - --no-check-certificate {page}/install.sh | sh");
    let output = sh(&root, &line)?.success()?;
    assert!(output.stderr.contains("installed /home/.local/bin/converge "), "{}", output.stderr);
    Ok(())
}

#[test]
fn what_is_not_what_the_script_says_is_not_installed() -> Result<()> {
    let offer = Offer::start()?;
    let root = root("sh=dash", &["curl"])?;
    sh(&root, &offer.line(""))?.success()?;
    let (page, pin) = offer.place();
    let fetch = format!("curl -fsSLk --pinnedpubkey '{pin}' '{page}/install.sh'");
    let script = sh(&root, &fetch)?.success()?.text();
    root.write("tmp/install.sh", &script)?;
    let before = root.files()?;

    // Somebody has put another file there meanwhile, or one that is cut off.
    fs::write(offer.download("converge"), "#!/bin/sh\necho converge 6.6.6\n")?;
    fails_with(&sh(&root, "sh /tmp/install.sh")?, "and not ");
    fs::remove_file(offer.download("converge"))?;
    fails_with(&sh(&root, "sh /tmp/install.sh")?, "cannot download https://127.0.0.1:");
    // A script that arrives in part does nothing.
    root.write("tmp/part.sh", &script[..script.len() - 10])?;
    let _ = sh(&root, "sh /tmp/part.sh")?;
    fs::remove_file(root.path().join("tmp/part.sh"))?;
    assert_eq!(root.files()?, before);
    Ok(())
}

#[test]
fn another_key_than_the_pinned_one_gets_no_hearing() -> Result<()> {
    let offer = Offer::start()?;
    let root = root("sh=dash", &["curl"])?;
    let (page, pin) = offer.place();
    let other = Offer::start()?;
    let (other_page, other_pin) = other.place();
    let line = format!("curl -fsSLk --pinnedpubkey '{other_pin}' '{page}/install.sh' | sh");
    let output = sh(&root, &line)?;
    assert!(output.stderr.contains("public key does not match pinned"), "{}", output.stderr);
    assert!(!root.path().join("home/.local").exists());

    // Also where the script is right, and somebody else is there when the program is fetched.
    let script = sh(&root, &format!("curl -fsSLk --pinnedpubkey '{pin}' '{page}/install.sh'"))?.success()?;
    root.write("tmp/install.sh", &script.text().replace(page, other_page))?;
    let output = sh(&root, "sh /tmp/install.sh")?;
    fails_with(&output, "public key does not match pinned");
    assert!(!root.path().join("home/.local/bin/converge").exists());
    Ok(())
}

#[test]
fn every_failure_says_what_to_do() -> Result<()> {
    let offer = Offer::start()?;
    let all = root("sh=dash", &["curl"])?;
    fails_with(&sh(&all, &offer.line("everything"))?, "what is 'everything'?");
    fails_with(&sh(&all, &offer.line("--dir"))?, "--dir wants a directory");
    fails_with(&sh(&all, &offer.line("--dir /bin/sh/x"))?, "choose another directory with --dir");
    fails_with(
        &sh(&all, &offer.line("relay"))?,
        &format!("this relay has no converge-relay-linux-{ARCH}; ask who runs it"),
    );
    let without_home = format!("unset HOME; {}", offer.line(""));
    fails_with(&sh(&all, &without_home)?, "HOME is not set; say where to with --dir DIR");
    let other_system = format!("{}; :", offer.line("").replace("| sh", "| sed s/uname/false/ | sh"));
    let with_sed = root("sh=dash", &["curl", "sed", "false"])?;
    assert!(sh(&with_sed, &other_system)?.stderr.contains("it is unknown which program would run"));

    let (page, pin) = offer.place();
    let script =
        sh(&all, &format!("curl -fsSLk --pinnedpubkey '{pin}' '{page}/install.sh'"))?.success()?.text();
    let nothing = root("sh=dash", &[])?;
    nothing.write("tmp/install.sh", &script)?;
    fails_with(&sh(&nothing, "sh /tmp/install.sh")?, "neither curl nor wget is here");
    fs::remove_file(all.path().join("bin/sha256sum"))?;
    fails_with(&sh(&all, &offer.line(""))?, "there is no sha256sum, shasum or openssl here");
    assert!(!all.path().join("home/.local/bin/converge").exists());
    let help = sh(&all, &offer.line("--help"))?.success()?;
    assert!(help.text().starts_with("usage: install.sh"), "{}", help.text());
    Ok(())
}

/// Shell programs are held against a linter that knows what is not POSIX.
#[test]
fn scripts_are_posix() -> Result<()> {
    let offer = Offer::start()?;
    let (page, pin) = offer.place();
    let mut curl = Command::new(programs::installed("curl")?);
    let script =
        run(curl.args(["-fsSk", "--pinnedpubkey", &pin, &format!("{page}/install.sh")]), b"")?.success()?;
    let file = offer.directory.path().join("install.sh");
    fs::write(&file, script.stdout)?;
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let ours =
        ["scripts/dist", "scripts/image", "deploy/ci/install-agent.sh", "deploy/ci/buildkite/hooks/command"];
    let mut linter = Command::new(programs::installed("shellcheck")?);
    run(linter.arg(&file).args(ours.map(|path| top.join(path))), b"")?.success()?;
    Ok(())
}

/// The templates for CI systems install the agent from a relay and run a step with it.
#[test]
fn templates_for_ci_systems_open_a_failed_step() -> Result<()> {
    let offer = Offer::start()?;
    let work = offer.directory.path().join("work");
    fs::create_dir_all(work.join("job"))?;
    let key = offer.directory.path().join("key");
    converge_interop_tests::setup::make_key(&key)?;
    fs::copy(key.with_extension("pub"), work.join("job/.authorized_keys"))?;
    let mut python = Command::new(programs::for_deploy("python")?);
    python.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    python.env("HOME", &work).env("TMPDIR", &work).env("PYTHONUNBUFFERED", "1");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    python.arg(here.join("tests/deploy/templates.py")).arg(here.join("../deploy/ci"));
    python.arg(&offer.relay.url).arg(&work);
    let mut playing = Process::start("templates", &mut python, offer.directory.path())?;
    playing.wait_for("that all templates did as they should", |line| (line == "all done").then_some(()))?;
    assert!(playing.wait()?.success());
    Ok(())
}
