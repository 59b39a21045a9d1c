//! Files in `deploy/`, held against the programs that read them.

use anyhow::Result;
use converge_interop_tests::{process::run, programs};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// With nothing of this machine's settings.
fn relay() -> Result<Command> {
    let mut relay = Command::new(programs::own("converge-relay")?);
    converge_interop_tests::setup::clean(&mut relay);
    Ok(relay)
}

#[test]
fn chart_renders_and_kubernetes_knows_every_field() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("relay.toml");
    let mut python = Command::new(programs::for_deploy("python")?);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/chart.py");
    python.arg(script).arg(deploy("helm/converge-relay")).arg(&config);
    let output = run(&mut python, b"")?.success()?;
    assert!(output.text().ends_with("all done\n"), "{}{}", output.text(), output.stderr);
    run(relay()?.arg("--config").arg(&config).arg("--check-config"), b"")?.success()?;
    Ok(())
}

#[test]
fn ci_systems_and_compose_know_every_field() -> Result<()> {
    for (schema, file) in [
        ("github-workflows", "ci/github/workflow.yml"),
        ("github-actions", "ci/github/action.yml"),
        ("gitlab-ci", "ci/gitlab/converge.gitlab-ci.yml"),
        ("circle-ci", "ci/circleci/config.yml"),
        ("buildkite", "ci/buildkite/pipeline.yml"),
        ("azure-pipelines", "ci/azure/converge.yml"),
        ("compose-spec", "container/compose.yaml"),
    ] {
        let mut check = Command::new(programs::for_deploy("check-jsonschema")?);
        check.args(["--builtin-schema", &format!("vendor.{schema}")]).arg(deploy(file));
        run(&mut check, b"")?.success()?;
    }
    Ok(())
}

#[test]
fn alerts_fire_when_they_should() -> Result<()> {
    let promtool = || programs::installed("promtool").map(Command::new);
    run(promtool()?.args(["check", "rules"]).arg(deploy("prometheus/alerts.yml")), b"")?.success()?;
    let mut test = promtool()?;
    test.current_dir(deploy("prometheus")).args(["test", "rules", "alerts_test.yml"]);
    run(&mut test, b"")?.success()?;
    Ok(())
}

#[test]
fn units_are_understood_and_hardened() -> Result<()> {
    let analyze = || programs::installed("systemd-analyze").map(Command::new);
    // Where the unit looks for them there is nothing on this machine.
    let directory = tempfile::tempdir()?;
    let service = fs::read_to_string(deploy("systemd/converge-relay.service"))?;
    let program = programs::own("converge-relay")?;
    let service = service.replace("/usr/local/bin/converge-relay", &program.display().to_string());
    fs::write(directory.path().join("converge-relay.service"), service)?;
    fs::copy(deploy("systemd/converge-relay.socket"), directory.path().join("converge-relay.socket"))?;
    let verify = || -> Result<Command> {
        let mut command = analyze()?;
        command.args(["verify", "--man=no"]).current_dir(directory.path()).env("SYSTEMD_UNIT_PATH", ":");
        Ok(command)
    };
    let output =
        run(verify()?.args(["./converge-relay.service", "./converge-relay.socket"]), b"")?.success()?;
    // What it does not understand it says, and ignores.
    assert_eq!(
        output.stderr.lines().filter(|line| line.contains("converge-relay")).collect::<Vec<_>>(),
        [""; 0]
    );
    // In tenths of a point out of ten; what nothing is done for has 96.
    let service = directory.path().join("converge-relay.service");
    run(analyze()?.args(["security", "--offline=yes", "--threshold=15"]).arg(service), b"")?.success()?;
    Ok(())
}

#[test]
fn sample_configuration_is_right() -> Result<()> {
    let sample = deploy("relay.toml");
    run(relay()?.arg("--config").arg(&sample).arg("--check-config"), b"")?.success()?;
    Ok(())
}

/// A name that nobody reads would set nothing, without a word.
#[test]
fn every_variable_is_one_that_the_relay_reads() -> Result<()> {
    let help = run(relay()?.arg("--help"), b"")?.success()?.text();
    let files = [
        "container/Containerfile",
        "systemd/converge-relay.service",
        "helm/converge-relay/templates/statefulset.yaml",
    ];
    for file in files {
        let text = fs::read_to_string(deploy(file))?;
        let is_part = |letter: char| letter.is_ascii_uppercase() || letter == '_';
        let words = text.split(|letter: char| !is_part(letter)).filter(|word| word.starts_with("CONVERGE_"));
        for variable in words {
            let flag = variable.replacen("CONVERGE_", "--", 1).to_lowercase().replace('_', "-");
            assert!(help.contains(&flag), "{file}: no flag of the relay reads {variable}");
        }
    }
    Ok(())
}
