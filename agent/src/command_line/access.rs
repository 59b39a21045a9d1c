//! What users may do.

use crate::ssh::{ForwardPolicy, ForwardRule, Policy, policy::NotAForwardRule};
use anyhow::bail;
use clap::{Args, builder::NonEmptyStringValueParser};
use std::{path::PathBuf, str::FromStr};

/// What users may do, and with what.
#[derive(Args, Debug)]
#[command(next_help_heading = "What they may do")]
pub struct AccessArguments {
    /// Shells to try before $SHELL, bash and sh; on Windows before pwsh, powershell and cmd
    #[arg(long, env = "CONVERGE_SHELLS", value_name = "LIST", value_delimiter = ',')]
    pub shells: Vec<PathBuf>,
    /// What may be forwarded: all, none, or a list
    ///
    /// HOST:PORT is for -L, -D, -W and -J, unix:PATH for -L, listen:PORT for -R on the loopback interface,
    /// listen:HOST:PORT and listen-unix:PATH for -R, agent for -A. * stands for any host, port or path. Programs, and
    /// so users with a shell, open connections as they like all the same
    #[arg(
        long,
        env = "CONVERGE_ALLOW_FORWARD",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub allow_forward: Vec<ForwardWord>,
    /// Refuse changes over sftp
    ///
    /// Also over scp, which uses it. Shells and commands change things all the same: see --no-exec and
    /// --command internal-sftp
    #[arg(long, env = "CONVERGE_READ_ONLY_SFTP")]
    pub read_only_sftp: bool,
    /// Allow only shells on a terminal and sftp
    ///
    /// Refuses commands (ssh HOST COMMAND, also with -t) and shells without a terminal
    #[arg(long, env = "CONVERGE_NO_EXEC")]
    pub no_exec: bool,
    /// Run CMD whatever users ask for
    ///
    /// CMD finds what they asked for in $SSH_ORIGINAL_COMMAND; internal-sftp allows file transfer alone. Wins over
    /// command= in key files
    #[arg(long = "command", env = "CONVERGE_COMMAND", value_name = "CMD", value_parser = NonEmptyStringValueParser::new())]
    pub forced_command: Option<String>,
}

/// One word of `--allow-forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardWord {
    /// Everything.
    All,
    /// Nothing.
    None,
    /// What one rule allows.
    Rule(ForwardRule),
}

impl FromStr for ForwardWord {
    type Err = NotAForwardRule;

    fn from_str(text: &str) -> Result<Self, NotAForwardRule> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            rule => rule.parse().map(Self::Rule),
        }
    }
}

impl AccessArguments {
    /// What users may do.
    ///
    /// # Errors
    /// When `--allow-forward` contradicts itself.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        Ok(Policy {
            forward: self.forward_policy()?,
            read_only_sftp: self.read_only_sftp,
            exec: !self.no_exec,
            command: self.forced_command.clone(),
        })
    }

    fn forward_policy(&self) -> anyhow::Result<ForwardPolicy> {
        match self.allow_forward.as_slice() {
            [ForwardWord::All] => return Ok(ForwardPolicy::All),
            [ForwardWord::None] => return Ok(ForwardPolicy::Only(Vec::new())),
            _ => {}
        }
        let mut rules = Vec::new();
        for word in &self.allow_forward {
            match word {
                ForwardWord::Rule(rule) => rules.push(rule.clone()),
                _ => bail!("--allow-forward: all and none stand alone; leave them or the rest out"),
            }
        }
        Ok(ForwardPolicy::Only(rules))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        access: AccessArguments,
    }

    fn policy(arguments: &[&str]) -> Result<Policy, String> {
        let arguments = std::iter::once(&"program").chain(arguments);
        let program = Program::try_parse_from(arguments).map_err(|error| error.to_string())?;
        program.access.policy().map_err(|error| error.to_string())
    }

    /// `run` has a command of its own.
    #[test]
    fn arguments_of_the_whole_program_do_not_contradict_each_other() {
        <crate::command_line::CommandLine as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn without_arguments_everything_is_allowed() {
        assert_eq!(policy(&[]), Ok(Policy::default()));
        assert_eq!(policy(&["--allow-forward", "all"]), Ok(Policy::default()));
    }

    #[test]
    fn lists_may_be_split_in_any_way() {
        let rules = ["db:5432", "[::1]:*", "unix:/run/x", "listen:8080", "agent"];
        let expected = ForwardPolicy::Only(rules.iter().map(|rule| rule.parse().expect("a rule")).collect());
        let whole = policy(&["--allow-forward", &rules.join(",")]).expect("a policy");
        let parts: Vec<_> = rules.iter().flat_map(|rule| ["--allow-forward", rule]).collect();
        assert_eq!(whole.forward, expected);
        assert_eq!(policy(&parts).expect("a policy").forward, expected);
        let none = policy(&["--allow-forward", "none"]).expect("a policy");
        assert_eq!(none.forward, ForwardPolicy::Only(Vec::new()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for list in ["all,none", "all,db:1", "none,db:1"] {
            let error = policy(&["--allow-forward", list]).expect_err(list);
            assert!(error.contains("all and none stand alone"), "{error}");
        }
        let error = policy(&["--allow-forward", "db"]).expect_err("no port");
        assert!(error.contains("expected HOST:PORT, unix:PATH, listen:PORT"), "{error}");
        assert!(policy(&["--command", ""]).is_err());
    }

    #[test]
    fn the_other_arguments_reach_the_policy() {
        let policy =
            policy(&["--read-only-sftp", "--no-exec", "--command", "internal-sftp"]).expect("a policy");
        assert!(policy.read_only_sftp && !policy.exec);
        assert_eq!(policy.command.as_deref(), Some("internal-sftp"));
    }
}
