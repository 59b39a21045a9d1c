//! The commands: for the job, and for the person's machine.

use super::{
    InstallLines,
    form::{Form, JobOs, LocalOs, Meant, Problems, Shell},
};
use converge_proto::{Address, RelayUrl};

/// Everything that the form comes to.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) problems: Problems,
    /// What somebody should know.
    pub(super) notes: Vec<&'static str>,
    /// The lines for the job.
    pub(super) job: String,
    /// The same in the CI system's own file, whose name is the first.
    pub(super) ci_file: Option<(&'static str, String)>,
    pub(super) install_client: Option<String>,
    pub(super) connect_words: &'static str,
    pub(super) connect: String,
    pub(super) files: String,
    pub(super) config: String,
    /// What the person types after `ssh` from then on.
    pub(super) host: String,
}

/// The lines for the job.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) text: String,
    /// Whether they run the step that may fail.
    pub(super) runs_step: bool,
}

impl Commands {
    /// `has_windows_agent`: this relay hands one out.
    pub(super) fn new(
        form: &Form,
        relay: &RelayUrl,
        install: &InstallLines,
        has_windows_agent: bool,
    ) -> Self {
        let (meant, problems) = form.meant();
        let install_agent = match form.shell {
            // The script takes the name of what to install behind `sh`.
            Shell::Sh => install
                .shell
                .as_ref()
                .map(|line| format!("{line} -s -- agent\nexport PATH=\"$HOME/.local/bin:$PATH\"")),
            Shell::PowerShell if form.os == JobOs::Windows && has_windows_agent => {
                let path = r#"$env:PATH = "$HOME\.local\bin;$env:PATH""#;
                install.powershell_agent.as_ref().map(|line| format!("{line}\n{path}"))
            }
            Shell::PowerShell => None,
        };
        let lines = job_lines(&meant, form.shell, relay, install_agent);
        let (host, address) = match &meant.id {
            Some(id) => {
                let address =
                    Address { id: id.clone(), fingerprint: None, relay: Some(relay.clone()) }.to_string();
                (format!("{id}{}", Address::SUFFIX), quoted(&address))
            }
            None => (format!("ID{}", Address::SUFFIX), "ADDRESS".to_owned()),
        };
        let relay = quoted(&relay.to_string());
        Self {
            notes: notes(form, &meant, has_windows_agent),
            problems,
            ci_file: form.ci.file(&lines, form.shell),
            job: lines.text,
            install_client: match form.local {
                LocalOs::Windows => install.powershell.clone(),
                LocalOs::Linux | LocalOs::Mac => install.shell.clone(),
            },
            connect_words: if meant.id.is_some() {
                "A shell in the job. It waits up to ten minutes for a job that has not come so far yet. (The line in the \
                 job's log has the fingerprint of the job's key in it, too; here this relay vouches for the key.)"
            } else {
                "A shell in the job. ADDRESS is what the agent prints into the job's log."
            },
            connect: format!("converge --wait 10m ssh {address}"),
            files: format!("converge sftp {address}"),
            config: match form.local {
                // `>>` of the PowerShell that is part of Windows writes UTF-16, which ssh does not read.
                LocalOs::Windows => {
                    format!(
                        "converge --relay {relay} config | Add-Content -Encoding ascii $HOME\\.ssh\\config"
                    )
                }
                LocalOs::Linux | LocalOs::Mac => format!("converge --relay {relay} config >> ~/.ssh/config"),
            },
            host,
        }
    }
}

fn notes(form: &Form, meant: &Meant, has_windows_agent: bool) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if form.os == JobOs::Windows && has_windows_agent {
        notes.push(
            "This relay hands out an agent for Windows. Converge's own tests do not run it, so try it before you rely on \
             it; in WSL and in a Linux container the agent for Linux does.",
        );
        if form.shell == Shell::Sh {
            notes.push("These lines are for WSL or a Linux container; for Windows itself choose PowerShell.");
        }
    } else if form.os == JobOs::Windows {
        notes.push("There is no agent for Windows yet: on a Windows runner these lines work in WSL or in a Linux container.");
    }
    if meant.keys.is_empty() && meant.github.is_empty() {
        notes.push(
            "Say who may log in: a GitHub user or a public key above, or a file .authorized_keys in the job's directory. \
             Without any key the agent does not start.",
        );
    }
    notes
}

fn job_lines(meant: &Meant, shell: Shell, relay: &RelayUrl, install: Option<String>) -> Lines {
    let mut lines: Vec<_> = install.into_iter().collect();
    match shell {
        Shell::Sh => {
            lines.extend(meant.keys.iter().map(|key| format!("echo '{key}' >> .authorized_keys")));
        }
        Shell::PowerShell => {
            let append = "| Add-Content -Encoding ascii .authorized_keys";
            lines.extend(meant.keys.iter().map(|key| format!("'{key}' {append}")));
        }
    }
    let mut agent = vec!["converge-agent".to_owned()];
    agent.extend(meant.step.is_some().then(|| "run".to_owned()));
    agent.push(format!("--relay {}", quoted(&relay.to_string())));
    agent.extend(meant.id.as_ref().map(|id| format!("--id {id}")));
    agent.extend(meant.github.iter().map(|user| format!("--github-user {user}")));
    agent.extend(meant.step.as_ref().map(|step| format!("-- {}", step_words(step, shell))));
    lines.push(agent.join(" "));
    Lines { text: lines.join("\n"), runs_step: meant.step.is_some() }
}

/// A command of plain words as it is; anything else through a shell of its own.
fn step_words(step: &str, shell: Shell) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _-./:=,@+".contains(&byte);
    match shell {
        _ if step.bytes().all(is_plain) => step.to_owned(),
        Shell::Sh => format!("sh -c '{}'", step.replace('\'', r"'\''")),
        Shell::PowerShell => format!("pwsh -Command '{}'", step.replace('\'', "''")),
    }
}

/// As every shell takes it.
fn quoted(url: &str) -> String {
    format!("'{}'", url.replace('\'', "%27"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5F5Rz4h1l3wA0B0M0gkQqz1c0uVd9wS0mJm0mJ0mJ0";

    fn commands(query: &str) -> Commands {
        let install = InstallLines {
            shell: Some("curl -fsSL 'https://relay/install.sh' | sh".to_owned()),
            powershell_agent: Some("& (irm 'https://relay/install.ps1') agent".to_owned()),
            ..InstallLines::default()
        };
        let has_windows_agent = query.contains("handed-out");
        Commands::new(
            &Form::parse(query, ""),
            &"https://relay/sub".parse().unwrap(),
            &install,
            has_windows_agent,
        )
    }

    #[test]
    fn agent_for_windows_is_installed_where_there_is_one() {
        let lines = commands("ci=other&os=windows&shell=pwsh&github=octocat&handed-out");
        let expected = "& (irm 'https://relay/install.ps1') agent\n$env:PATH = \"$HOME\\.local\\bin;$env:PATH\"\n\
                        converge-agent --relay 'https://relay/sub' --github-user octocat";
        assert_eq!(lines.job, expected);
        assert!(matches!(*lines.notes, [note] if note.contains("hands out an agent for Windows")));
        assert_eq!(commands("os=windows&github=octocat&handed-out").notes.len(), 2, "sh is for WSL");
        let without = commands("ci=other&os=windows&shell=pwsh&github=octocat");
        assert!(!without.job.contains("irm"), "{}", without.job);
        assert!(matches!(*without.notes, [note] if note.contains("There is no agent for Windows yet")));
        assert!(!commands("os=linux&shell=pwsh&handed-out").job.contains("irm"));
    }

    #[test]
    fn every_line_says_what_the_form_does() {
        let commands = commands(&format!(
            "ci=other&id=x&github=octocat&keys={}&step=make+%26%26+echo+'y'",
            KEY.replace(' ', "+")
        ));
        let expected = format!(
            "curl -fsSL 'https://relay/install.sh' | sh -s -- agent\nexport PATH=\"$HOME/.local/bin:$PATH\"\n\
             echo '{KEY}' >> .authorized_keys\n\
             converge-agent run --relay 'https://relay/sub' --id x --github-user octocat -- sh -c 'make && echo '\\''y'\\'''"
        );
        assert_eq!(commands.job, expected);
        assert_eq!(commands.connect, "converge --wait 10m ssh 'https://relay/sub/client/x'");
        assert_eq!(commands.host, "x.converge");
        assert!(commands.ci_file.is_none() && commands.problems.is_empty() && commands.notes.is_empty());
    }

    #[test]
    fn powershell_quotes_in_its_own_way() {
        let commands = commands("ci=azure&shell=pwsh&local=windows&step=a+'b'");
        assert!(commands.job.ends_with("-- pwsh -Command 'a ''b'''"), "{}", commands.job);
        assert!(commands.config.ends_with(r"config | Add-Content -Encoding ascii $HOME\.ssh\config"));
        assert_eq!(commands.notes.len(), 1, "nobody can log in");
        assert!(commands.ci_file.unwrap().1.starts_with("  - pwsh: |\n      converge-agent run "));
    }

    #[test]
    fn files_of_ci_systems_escape_what_means_something_there() {
        let step = "step=echo+%27%27%27%24HOME%5Cx%27%27%27";
        let jenkins = commands(&format!("ci=jenkins&{step}")).ci_file.unwrap().1;
        let inside = jenkins.split("'''").nth(1).unwrap();
        assert!(inside.contains(r"$HOME\\x"), "{jenkins}");
        assert_eq!(jenkins.matches("'''").count(), 2, "{jenkins}");
        let buildkite = commands(&format!("ci=buildkite&{step}")).ci_file.unwrap().1;
        assert!(buildkite.contains("$$HOME") && !buildkite.replace("$$", "").contains('$'), "{buildkite}");
        let github = commands("ci=github").ci_file.unwrap().1;
        assert!(github.contains("\n        if: failure()\n        run: |\n          curl "), "{github}");
    }
}
