//! The tools that own containers, and their command lines.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Target;

/// The keys with which docker leaves a program running and goes away. Its default begins with Ctrl-P, which is
/// "the command before" in every shell and would arrive one key late. Nobody types this.
const DOCKER_DETACH_KEYS: &str = "--detach-keys=ctrl-^,ctrl-@,ctrl-^,ctrl-@";
/// Podman can do without.
const PODMAN_DETACH_KEYS: &str = "--detach-keys=";

/// Which command line a tool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// docker.
    Docker,
    /// podman.
    Podman,
    /// nerdctl.
    Nerdctl,
    /// kubectl.
    Kubectl,
}

impl ToolKind {
    /// Those for containers, in the order in which they are tried.
    pub const FOR_CONTAINERS: [Self; 3] = [Self::Docker, Self::Podman, Self::Nerdctl];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
            Self::Kubectl => "kubectl",
        }
    }
}

/// A tool, and where its program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    kind: ToolKind,
    program: PathBuf,
}

/// Why a program cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected docker, podman or nerdctl, or a path to one of them", .0.display())]
pub struct NotATool(PathBuf);

/// What a program inside reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Pipe,
    Terminal,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())
    }
}

impl Tool {
    /// A program with the command line of `kind`.
    pub fn new(kind: ToolKind, program: impl Into<PathBuf>) -> Self {
        Self { kind, program: program.into() }
    }

    /// A tool for containers, which its file name tells apart.
    ///
    /// # Errors
    /// When the name is none of theirs.
    pub fn for_containers(program: &Path) -> Result<Self, NotATool> {
        // On Windows it ends in `.exe`.
        let name = program.file_name().and_then(OsStr::to_str);
        let name = name.map(|name| name.strip_suffix(EXE_SUFFIX).unwrap_or(name));
        let named = |kind: &ToolKind| name == Some(kind.name());
        let kind = ToolKind::FOR_CONTAINERS.into_iter().find(named);
        kind.map(|kind| Self::new(kind, program)).ok_or_else(|| NotATool(program.to_owned()))
    }

    /// The same tool, where its program was found.
    #[must_use]
    pub fn at(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// The command that runs something inside, up to what that is.
    pub(super) fn exec(&self, target: &Target, input: Input) -> Command {
        let mut command = self.command();
        command.arg("exec");
        match input {
            Input::Nothing => {}
            Input::Pipe => drop(command.arg("-i")),
            Input::Terminal => drop(command.args(["-i", "-t"])),
        }
        match target {
            Target::Container(name) => {
                match self.kind {
                    ToolKind::Docker if input == Input::Terminal => drop(command.arg(DOCKER_DETACH_KEYS)),
                    ToolKind::Podman if input == Input::Terminal => drop(command.arg(PODMAN_DETACH_KEYS)),
                    _ => {}
                }
                command.arg(name.as_str());
            }
            Target::Pod(name) => {
                // Without a word about which container it chose.
                command.args(["--quiet", "-n", &name.namespace, &name.pod]);
                if let Some(container) = &name.container {
                    command.args(["-c", container]);
                }
                command.arg("--");
            }
        }
        command
    }

    /// The command that says whether it runs; see [`says_running`](Self::says_running).
    pub(super) fn inspect(&self, target: &Target) -> Command {
        let mut command = self.command();
        match target {
            Target::Container(name) => {
                command.args(["container", "inspect", "--format", "{{.State.Running}}", name.as_str()]);
            }
            Target::Pod(name) => {
                let wanted = match &name.container {
                    None => "jsonpath={.status.phase}".to_owned(),
                    Some(container) => format!(
                        "jsonpath={{range .status.containerStatuses[?(@.name==\"{container}\")]}}{{.state}}{{end}}"
                    ),
                };
                command.args(["get", "pod", "-n", &name.namespace, &name.pod, "-o", &wanted]);
            }
        }
        command
    }

    /// Whether what [`inspect`](Self::inspect) printed means that it runs.
    pub(super) fn says_running(answer: &str) -> bool {
        let answer = answer.trim();
        answer == "true" || answer == "Running" || answer.starts_with("{\"running\"")
    }

    /// With the agent's own environment, in which the tool finds its daemon and its configuration.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("DOCKER_CLI_HINTS", "false");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<&str> {
        let command = command.as_std();
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_str().unwrap())
            .collect()
    }

    fn container() -> Target {
        Target::Container("web".parse().unwrap())
    }

    fn pod(name: &str) -> Target {
        Target::Pod(name.parse().unwrap())
    }

    #[test]
    fn a_tool_is_known_by_the_name_of_its_file() {
        let kind = |path: &str| Tool::for_containers(Path::new(path)).map(|tool| tool.kind);
        assert_eq!(kind("docker"), Ok(ToolKind::Docker));
        assert_eq!(kind("/opt/x/podman"), Ok(ToolKind::Podman));
        assert_eq!(kind("nerdctl"), Ok(ToolKind::Nerdctl));
        for other in ["", "kubectl", "dockerd", "/usr/bin/", "sh"] {
            assert!(kind(other).is_err(), "{other}");
        }
    }

    #[test]
    fn containers_are_entered_with_the_options_that_each_tool_has() {
        let exec = |kind, input| words(&Tool::new(kind, kind.name()).exec(&container(), input)).join(" ");
        for kind in ToolKind::FOR_CONTAINERS {
            let name = kind.name();
            assert_eq!(exec(kind, Input::Nothing), format!("{name} exec web"));
            assert_eq!(exec(kind, Input::Pipe), format!("{name} exec -i web"));
        }
        let docker = "docker exec -i -t --detach-keys=ctrl-^,ctrl-@,ctrl-^,ctrl-@ web";
        assert_eq!(exec(ToolKind::Docker, Input::Terminal), docker);
        assert_eq!(exec(ToolKind::Podman, Input::Terminal), "podman exec -i -t --detach-keys= web");
        assert_eq!(exec(ToolKind::Nerdctl, Input::Terminal), "nerdctl exec -i -t web");
    }

    #[test]
    fn pods_are_entered_with_kubectl() {
        let kubectl = Tool::new(ToolKind::Kubectl, "kubectl");
        assert_eq!(
            words(&kubectl.exec(&pod("ci/job"), Input::Pipe)).join(" "),
            "kubectl exec -i --quiet -n ci job --"
        );
        assert_eq!(
            words(&kubectl.exec(&pod("ci/job/db"), Input::Terminal)).join(" "),
            "kubectl exec -i -t --quiet -n ci job -c db --"
        );
        assert_eq!(
            words(&kubectl.inspect(&pod("ci/job"))).join(" "),
            "kubectl get pod -n ci job -o jsonpath={.status.phase}"
        );
        assert_eq!(
            words(&kubectl.inspect(&pod("ci/job/db"))).last(),
            Some(&r#"jsonpath={range .status.containerStatuses[?(@.name=="db")]}{.state}{end}"#)
        );
    }

    #[test]
    fn only_what_runs_is_said_to_run() {
        for running in ["true\n", "Running", r#"{"running":{"startedAt":"2026-01-01T00:00:00Z"}}"#] {
            assert!(Tool::says_running(running), "{running}");
        }
        for not in ["", "false\n", "Pending", r#"{"waiting":{"reason":"running"}}"#, "Succeeded"] {
            assert!(!Tool::says_running(not), "{not}");
        }
    }
}
