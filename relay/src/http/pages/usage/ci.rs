//! The same lines, as the files of CI systems want them.

use super::{Lines, Shell, form::choice};

choice! {
    /// Where the job runs.
    Ci {
        GitHub = "github", "GitHub Actions";
        GitLab = "gitlab", "GitLab CI";
        Jenkins = "jenkins", "Jenkins";
        Circle = "circleci", "CircleCI";
        Buildkite = "buildkite", "Buildkite";
        Azure = "azure", "Azure Pipelines";
        Other = "other", "Something else";
    }
}

impl Ci {
    /// The file to edit, and what to put into it. `None` where there is no file that we know.
    pub(super) fn file(self, lines: &Lines, shell: Shell) -> Option<(&'static str, String)> {
        let name = if lines.runs_step { "Test, and open for ssh when it fails" } else { "Open for ssh" };
        let is_powershell = shell == Shell::PowerShell;
        let body = |indent: usize| indented(&lines.text, indent);
        Some(match self {
            Self::GitHub => {
                let condition = if lines.runs_step { "" } else { "        if: failure()\n" };
                let shell = if is_powershell { "        shell: pwsh\n" } else { "" };
                let text = format!("      - name: {name}\n{condition}{shell}        run: |\n{}", body(10));
                (".github/workflows/….yml", text)
            }
            Self::GitLab => (".gitlab-ci.yml", format!("  script:\n    - |\n{}", body(6))),
            Self::Jenkins => {
                let step = if is_powershell { "pwsh" } else { "sh" };
                let text = format!("{step} '''\n{}\n'''", in_groovy(&lines.text));
                if lines.runs_step {
                    ("Jenkinsfile", format!("steps {{\n{}\n}}", indented(&text, 4)))
                } else {
                    ("Jenkinsfile", format!("post {{\n    failure {{\n{}\n    }}\n}}", indented(&text, 8)))
                }
            }
            Self::Circle => {
                let condition = if lines.runs_step { "" } else { "          when: on_fail\n" };
                let shell = if is_powershell { "          shell: pwsh\n" } else { "" };
                let text = format!(
                    "      - run:\n          name: {name}\n{condition}{shell}          command: |\n{}",
                    body(12)
                );
                (".circleci/config.yml", text)
            }
            // Buildkite replaces what begins with a dollar sign before any shell sees it.
            Self::Buildkite => {
                let body = indented(&lines.text.replace('$', "$$"), 6);
                (".buildkite/pipeline.yml", format!("  - label: {name}\n    command: |\n{body}"))
            }
            Self::Azure => {
                let step = if is_powershell { "pwsh" } else { "script" };
                let condition = if lines.runs_step { "" } else { "    condition: failed()\n" };
                let text = format!("  - {step}: |\n{}\n    displayName: {name}\n{condition}", body(6));
                ("azure-pipelines.yml", text.trim_end().to_owned())
            }
            Self::Other => return None,
        })
    }
}

fn indented(text: &str, by: usize) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("{:by$}{line}", "")).collect();
    lines.join("\n")
}

/// Inside `'''`, Groovy takes a backslash for an escape.
fn in_groovy(text: &str) -> String {
    text.replace('\\', "\\\\").replace("'''", "''\\'")
}
