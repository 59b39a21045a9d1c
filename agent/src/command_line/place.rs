//! Where users' programs run.

use super::clocks::duration;
use crate::{
    place::{ContainerName, Place, PlaceConfig, PodName, Target, Tool, ToolKind},
    sftp::{self, SftpConfig},
    ssh::find_program,
};
use anyhow::{Context, bail};
use clap::Args;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where users' programs run.
#[derive(Args, Debug)]
#[command(next_help_heading = "Where it runs (shells, commands and sftp)")]
pub struct PlaceArguments {
    /// In a container beside the job, by docker, podman or nerdctl
    ///
    /// A name or an ID. Everything in it is as its own exec command has it: user, environment, directory. The
    /// container needs sh, and for sftp an sftp-server, or a libc that this program runs with. Forwarded ports are
    /// still the job's
    #[arg(long, env = "CONVERGE_CONTAINER", value_name = "NAME", conflicts_with = "pod")]
    pub container: Option<ContainerName>,
    /// In a pod, by kubectl: NAMESPACE/POD or NAMESPACE/POD/CONTAINER
    #[arg(long, env = "CONVERGE_POD", value_name = "POD")]
    pub pod: Option<PodName>,
    /// docker, podman or nerdctl, or a path to one; without it, the first that knows the container
    #[arg(long, env = "CONVERGE_CONTAINER_TOOL", hide_short_help = true, value_name = "TOOL")]
    pub container_tool: Option<PathBuf>,
    /// A kubectl that is not in PATH
    #[arg(
        long,
        env = "CONVERGE_KUBECTL",
        hide_short_help = true,
        value_name = "FILE",
        default_value = "kubectl",
        hide_default_value = true
    )]
    pub kubectl: PathBuf,
    /// Where to start inside; without it, where the container says
    #[arg(long, env = "CONVERGE_CONTAINER_DIR", hide_short_help = true, value_name = "DIR")]
    pub container_dir: Option<PathBuf>,
    /// How long a shell waits for a container that does not run yet
    #[arg(
        long,
        env = "CONVERGE_CONTAINER_WAIT",
        hide_short_help = true,
        value_name = "TIME",
        default_value = "60s",
        value_parser = duration
    )]
    pub container_wait: Duration,
}

impl PlaceArguments {
    /// The container or pod, if programs are to run in one.
    ///
    /// # Errors
    /// When the tool for it is not there; the text is for the person who started the agent.
    pub fn place(&self) -> anyhow::Result<Option<Place>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |program: &Path| find_program(program, &path);
        let (target, tools) = match (&self.container, &self.pod) {
            (None, None) => return Ok(None),
            (Some(container), _) => (Target::Container(container.clone()), self.container_tools(find)?),
            (None, Some(pod)) => {
                let program = find(&self.kubectl).with_context(|| {
                    format!("--pod: {} is not here; install it or see --kubectl", self.kubectl.display())
                })?;
                (Target::Pod(pod.clone()), vec![Tool::new(ToolKind::Kubectl, program)])
            }
        };
        let config = PlaceConfig {
            dir: self.container_dir.clone(),
            wait: self.container_wait,
            ..PlaceConfig::new(target, tools)
        };
        Ok(Some(Place::new(config).context("--container-dir")?))
    }

    fn container_tools(&self, find: impl Fn(&Path) -> Option<PathBuf>) -> anyhow::Result<Vec<Tool>> {
        if let Some(wanted) = &self.container_tool {
            let tool = Tool::for_containers(wanted).context("--container-tool")?;
            let Some(program) = find(wanted) else {
                bail!("--container-tool: {} is not here", wanted.display());
            };
            return Ok(vec![tool.at(program)]);
        }
        let found = |kind: ToolKind| Some(Tool::new(kind, find(Path::new(kind.name()))?));
        let tools: Vec<_> = ToolKind::FOR_CONTAINERS.into_iter().filter_map(found).collect();
        if tools.is_empty() {
            bail!(
                "--container: neither docker nor podman nor nerdctl is in PATH; install one or see --container-tool"
            );
        }
        Ok(tools)
    }
}

/// What the sftp server in a container is told.
#[derive(Args, Debug)]
pub struct SftpServerArguments {
    /// Change nothing
    #[arg(long)]
    pub read_only: bool,
    /// Remove this file first: the program itself
    #[arg(long, value_name = "FILE")]
    pub remove: Option<OsString>,
}

impl SftpServerArguments {
    /// Serves until the end of stdin. Returns the exit status.
    ///
    /// # Errors
    /// When the working directory is gone, or the client broke a rule of the protocol.
    pub fn run(&self) -> anyhow::Result<u8> {
        if let Some(program) = &self.remove {
            // Whoever cannot remove it can still serve.
            let _ = std::fs::remove_file(program);
        }
        let root_dir = std::env::current_dir().context("cannot find out the working directory")?;
        let config = SftpConfig { root_dir, read_only: self.read_only };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(sftp::serve(tokio::io::stdin(), tokio::io::stdout(), config))?;
        // A read of stdin cannot be cancelled.
        runtime.shutdown_background();
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::CommandLine;
    use clap::Parser;

    fn parse(arguments: &[&str]) -> Result<PlaceArguments, String> {
        let all = ["converge-agent", "https://relay.example"].iter().chain(arguments);
        CommandLine::try_parse_from(all).map(|line| line.agent.place).map_err(|error| error.to_string())
    }

    fn place(arguments: &[&str]) -> Result<Option<String>, String> {
        let place = parse(arguments)?.place().map_err(|error| format!("{error:#}"))?;
        Ok(place.map(|place| place.to_string()))
    }

    #[test]
    fn programs_run_here_unless_something_else_is_said() {
        assert_eq!(place(&[]), Ok(None));
        assert_eq!(place(&["--container-dir", "/app"]), Ok(None));
        assert_eq!(parse(&[]).unwrap().container_wait, crate::place::DEFAULT_WAIT);
    }

    #[test]
    fn container_and_pod_exclude_each_other() {
        let error = place(&["--container", "web", "--pod", "ci/web"]).unwrap_err();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn names_cannot_be_options() {
        for wrong in ["--container=--privileged", "--container=", "--pod=-n/x", "--pod=web"] {
            let error = place(&[wrong]).unwrap_err();
            assert!(error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn a_tool_that_is_not_here_is_said_at_once() {
        let here = tempfile::tempdir().unwrap();
        let docker = here.path().join("docker");
        let tool = docker.to_str().unwrap();
        let error = place(&["--container", "web", "--container-tool", tool]).unwrap_err();
        assert!(error.contains("is not here"), "{error}");
        std::fs::copy("/bin/sh", &docker).unwrap();
        let web = Ok(Some("the container web".to_owned()));
        assert_eq!(place(&["--container", "web", "--container-tool", tool]), web);

        let error = place(&["--container", "web", "--container-tool", "/bin/sh"]).unwrap_err();
        assert!(error.contains("expected docker, podman or nerdctl"), "{error}");
        let error = place(&["--pod", "ci/web", "--kubectl", "/nonexistent/kubectl"]).unwrap_err();
        assert!(error.contains("/nonexistent/kubectl is not here"), "{error}");
        let pod = Ok(Some("the pod ci/web/db".to_owned()));
        assert_eq!(place(&["--pod", "ci/web/db", "--kubectl", "/bin/sh"]), pod);
    }

    #[test]
    fn the_directory_inside_is_an_absolute_one() {
        let error =
            place(&["--pod", "ci/web", "--kubectl", "/bin/sh", "--container-dir", "app"]).unwrap_err();
        assert!(error.contains("not an absolute path: app"), "{error}");
    }
}
