"""Runs the CI templates the way their CI systems do, with a step that fails, against a real relay.

usage: templates.py DEPLOY/CI RELAY WORK
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

TEMPLATES, RELAY, WORK = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
STEP = "echo in the step; exit 3"
COMMON = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
# Nobody comes in this test, so the job is not to wait for anybody.
COMMON |= {"CI": "true", "CONVERGE_FIRST_TIMEOUT": "1s"}


def load(name):
    return yaml.safe_load((TEMPLATES / name).read_text())


def run(what, script, environment, shell=("bash", "--noprofile", "--norc", "-eo", "pipefail")):
    """The status and the output of a script in the job's directory."""
    file = WORK / "script"
    file.write_text(script)
    done = subprocess.run(
        [*shell, str(file)], cwd=WORK / "job", env=environment, text=True, timeout=100,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    print(f"--- {what}: status {done.returncode}\n{done.stdout}", flush=True)
    return done.returncode, done.stdout


def opened(what, outcome, status=3):
    """The step was run by the agent, failed, and the job was open for the second that was allowed."""
    assert outcome[0] == status, what
    assert "This job is open for ssh as " in outcome[1], what
    if status == 3:
        assert "in the step\n" in outcome[1] and "failed with status 3" in outcome[1], what


def fill(values, known):
    """Puts what the system knows for its expressions; one that is not known is a mistake in the template or here."""
    def text(value):
        return re.sub(r"\$\{\{ *([\w.-]+) *\}\}|\$\(([\w.]+)\)", lambda found: known[found[1] or found[2]], value)
    return {name: text(value) for name, value in values.items()}


def steps(what, list_of_steps, known, environment):
    for step in list_of_steps:
        # As GitHub does after each step.
        path = Path(environment["GITHUB_PATH"]).read_text().split() if "GITHUB_PATH" in environment else []
        full = {**environment, "PATH": ":".join([*path, environment["PATH"]])}
        outcome = run(what, step.get("run") or step["bash"], full | fill(step.get("env", {}), known))
        if outcome[0] != 0:
            break
    return outcome


def github():
    action = load("github/action.yml")
    summary, path = WORK / "summary", WORK / "path"
    for file in (summary, path):
        file.write_text("")
    environment = COMMON | {
        "GITHUB_ACTIONS": "true", "GITHUB_JOB": "test", "GITHUB_REPOSITORY": "octocat/hello-world",
        "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "7", "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_PATH": str(path),
    }
    # In YAML 1.1, which is what is read here, `on` is another word for true.
    inputs = {"on" if name is True else name: told for name, told in action["inputs"].items()}
    known = {f"inputs.{name}": str(told.get("default", "")) for name, told in inputs.items()}
    # No network here that leads to GitHub.
    known |= {"inputs.relay": RELAY, "inputs.first-timeout": "1s", "inputs.github-user": "", "runner.temp": str(WORK)}
    # An expression of the workflow in the default value, and nothing of the script itself.
    assert not any("${{" in step["run"] for step in action["runs"]["steps"])
    opened("GitHub, around", steps("github", action["runs"]["steps"], known | {"inputs.run": STEP}, environment))
    assert "converge ssh" in summary.read_text()
    path.write_text("")
    opened("GitHub, on failure", steps("github", action["runs"]["steps"], known, environment), status=0)
    # An input with a shell's characters in it stays an input.
    spiteful = known | {"inputs.id": "'$(touch spiteful)"}
    assert steps("github", action["runs"]["steps"], spiteful, environment)[0] == 2
    assert not (WORK / "job" / "spiteful").exists()


def gitlab():
    jobs = load("gitlab/converge.gitlab-ci.yml")
    around, after = jobs[".converge"], jobs[".converge-on-failure"]
    variables = {**around["variables"], "CONVERGE_INSTALL_DIR": str(WORK / "gitlab")}
    known = {"CI_SERVER_URL": "https://gitlab.example", "GITLAB_USER_LOGIN": ""}
    variables = {name: re.sub(r"\$(\w+)", lambda found: known[found[1]], text) for name, text in variables.items()}
    environment = COMMON | variables | {
        "GITLAB_CI": "true", "CI_JOB_NAME": "test", "CI_JOB_URL": "https://gitlab.example/g/p/-/jobs/17",
        "CONVERGE_RELAY": RELAY,
    }
    script = "\n".join([*around["before_script"], f"converge-agent run -- sh -c '{STEP}'"])
    # Images without bash have a plain sh.
    for shell in (("bash", "-eo", "pipefail"), ("sh", "-e")):
        opened("GitLab", run("gitlab", script, environment, shell))
    for status, is_opened in (("failed", True), ("success", False)):
        outcome = run("gitlab", "\n".join(after["after_script"]), environment | {"CI_JOB_STATUS": status}, ("sh", "-e"))
        assert outcome[0] == 0 and ("This job is open" in outcome[1]) == is_opened


def jenkins():
    groovy = (TEMPLATES / "jenkins/vars/converge.groovy").read_text()
    install, step = (part.replace("\\\\", "\\") for part in re.findall("'''\n(.*?)'''", groovy, re.S))
    environment = COMMON | {
        "JENKINS_URL": "https://jenkins.example/", "BUILD_TAG": "jenkins-test-1", "BUILD_URL": "https://jenkins.example/1",
        "CONVERGE_RELAY": RELAY, "CONVERGE_INSTALL_DIR": str(WORK / "jenkins"), "CONVERGE_STEP": STEP,
    }
    assert run("jenkins", install, environment, ("sh", "-xe"))[0] == 0
    opened("Jenkins", run("jenkins", step, environment, ("sh", "-xe")))


def circleci():
    commands = load("circleci/config.yml")["commands"]
    rc = WORK / "bash_env"
    rc.write_text("")
    environment = COMMON | {
        "CIRCLECI": "true", "CIRCLE_JOB": "build", "CIRCLE_BUILD_URL": "https://circleci.example/1",
        "CONVERGE_RELAY": RELAY, "BASH_ENV": str(rc),
    }
    for name in ("converge-install", "converge-on-failure"):
        (told,) = commands[name]["steps"]
        script = told["run"]["command"].replace("/tmp/converge", str(WORK / "circleci"))
        outcome = run(name, script, environment, ("bash", "-eo", "pipefail"))
        assert outcome[0] == 0, name
        rc.write_text(rc.read_text().replace("/tmp/converge", str(WORK / "circleci")))
    opened("CircleCI", outcome, status=0)
    opened("CircleCI", run("circleci", f"converge-agent run -- sh -c '{STEP}'", environment, ("bash", "-eo", "pipefail")))


def buildkite():
    environment = COMMON | {
        "BUILDKITE": "true", "BUILDKITE_LABEL": "test", "BUILDKITE_BUILD_URL": "https://buildkite.example/1",
        "BUILDKITE_COMMAND": STEP, "BUILDKITE_PLUGIN_CONVERGE_RELAY": RELAY,
    }
    hook = (TEMPLATES / "buildkite/hooks/command").read_text()
    opened("Buildkite", run("buildkite", hook, environment, ("bash",)))


def azure():
    template = load("azure/converge.yml")
    known = {f"parameters.{told['name']}": str(told.get("default", "")) for told in template["parameters"]}
    known |= {"parameters.relay": RELAY, "parameters.run": STEP, "Agent.TempDirectory": str(WORK / "azure")}
    environment = COMMON | {"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": str(WORK / "azure")}
    (WORK / "azure").mkdir()
    opened("Azure", steps("azure", template["steps"], known, environment))


def all_install_alike():
    """In the same words, so that one of them cannot be mended without the others."""
    wanted = (TEMPLATES / "install-agent.sh").read_text().split("set -eu\n", 1)[1]
    wanted = [line.strip() for line in wanted.splitlines()]
    for path in ("github/action.yml", "gitlab/converge.gitlab-ci.yml", "jenkins/vars/converge.groovy",
                 "circleci/config.yml", "buildkite/hooks/command", "azure/converge.yml"):
        text = (TEMPLATES / path).read_text()
        lines = [line.strip() for line in text.replace("\\\\", "\\").splitlines()]
        start = lines.index(wanted[0])
        assert lines[start:start + len(wanted)] == wanted, path


def a_wrong_pin_installs_nothing():
    wrong = re.sub("pin-sha256=.", lambda found: found[0][:-1] + ("A" if found[0][-1] != "A" else "B"), RELAY)
    environment = COMMON | {"CONVERGE_RELAY": wrong, "CONVERGE_INSTALL_DIR": str(WORK / "wrong")}
    status, output = run("a wrong pin", (TEMPLATES / "install-agent.sh").read_text(), environment, ("sh",))
    assert status != 0 and "public key does not match pinned" in output
    assert not (WORK / "wrong").exists()


all_install_alike()
a_wrong_pin_installs_nothing()
for play in (github, gitlab, jenkins, circleci, buildkite, azure):
    play()
print("all done")
