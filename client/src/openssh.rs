//! `converge ssh`, `converge sftp` and `converge scp`: the system's own programs, told how to reach the agent.

use crate::{error::ClientError, handoff::Handoff, platform, target::Target};
use std::{ffi::OsString, path::Path};

/// AES-GCM first: with the instructions that nearly all processors have it is twice as fast as OpenSSH's first choice.
pub const CIPHERS: &str = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com";

/// Which of OpenSSH's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A shell, or a command.
    Ssh,
    /// Files, interactively or by batch.
    Sftp,
    /// Files, named on the command line.
    Scp,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Sftp => "sftp",
            Self::Scp => "scp",
        }
    }

    /// The command line behind our options. An argument that begins with `:` is a path in the job.
    fn arguments(self, host: &str, arguments: &[OsString]) -> Vec<OsString> {
        let remote = |argument: &OsString| {
            if argument.as_encoded_bytes().starts_with(b":") {
                let mut path = OsString::from(host);
                path.push(argument);
                path
            } else {
                argument.clone()
            }
        };
        match self {
            // ssh itself reads options behind the host name too.
            Self::Ssh => std::iter::once(host.into()).chain(arguments.iter().cloned()).collect(),
            Self::Scp => arguments.iter().map(remote).collect(),
            Self::Sftp => {
                let (paths, options): (Vec<_>, Vec<_>) = arguments
                    .iter()
                    .cloned()
                    .partition(|argument| argument.as_encoded_bytes().starts_with(b":"));
                let destination = paths.first().map_or_else(|| host.into(), remote);
                options.into_iter().chain([destination]).collect()
            }
        }
    }
}

/// Runs the program and returns what this process should exit with: the program's own status, or ours when our proxy
/// is what failed.
///
/// # Errors
/// [`ClientError`] when the program cannot be run.
pub fn run(program: Program, target: &Target, arguments: &[OsString]) -> Result<u8, ClientError> {
    let directory = platform::private_directory();
    let directory = directory.map_err(ClientError::local("cannot make a temporary directory"))?;
    let handoff = Handoff::new(directory.path());
    let own = std::env::current_exe().map_err(ClientError::local("cannot find this program's own path"))?;

    let mut command = std::process::Command::new(program.name());
    for option in options(&own, target, &handoff) {
        command.arg("-o").arg(option);
    }
    if let Some(proxy) = target.options.proxy.with_password_exposed() {
        // Not as an argument of the ProxyCommand: everybody on this machine can read those.
        command.env("CONVERGE_PROXY", proxy);
    }
    if let Some(token) = &target.token {
        // As above. ssh hands none of its environment on, unless it is told to by name.
        command.env("CONVERGE_TOKEN", token.secret());
    }
    command.args(program.arguments(&target.host_name(), arguments));
    let status = platform::run_in_foreground(&mut command).map_err(|source| ClientError::Local {
        what: format!("cannot run {}; is OpenSSH installed?", program.name()),
        source,
    })?;
    Ok(exit_code(platform::code_of(status), handoff.status()))
}

fn exit_code(code: i32, proxy: Option<u8>) -> u8 {
    match proxy {
        // ssh says 255 whatever went wrong, sftp and scp 1 or 255.
        Some(proxy) if code != 0 => proxy,
        _ => u8::try_from(code).unwrap_or(u8::MAX),
    }
}

/// What ssh is told. The first value of an option counts, so these come before the person's own.
fn options(own: &Path, target: &Target, handoff: &Handoff) -> Vec<String> {
    let own = quoted(&own.to_string_lossy());
    let mut common = format!("--handoff {}", quoted(&handoff.path().to_string_lossy()));
    if target.options.insecure {
        common += " --insecure";
    }
    if target.quiet {
        common += " --quiet";
    }
    let address = target.whole_address().iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let wait = target.wait.as_millis();
    vec![
        format!("ProxyCommand={own} proxy {common} --wait {wait}ms {address}"),
        format!("KnownHostsCommand={own} host-key {common} {address}"),
        format!("HostKeyAlias={}", target.host_name()),
        "StrictHostKeyChecking=yes".to_owned(),
        "UserKnownHostsFile=/dev/null".to_owned(),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "CheckHostIP=no".to_owned(),
        "ServerAliveInterval=0".to_owned(),
        format!("Ciphers={CIPHERS}"),
    ]
}

/// `text` as one word, for a shell and for ssh's own splitting alike, with ssh's `%` tokens switched off.
pub fn quoted(text: &str) -> String {
    platform::quoted(&text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(program: Program, arguments: &[&str]) -> Vec<OsString> {
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        program.arguments("a.converge", &arguments)
    }

    #[test]
    fn host_goes_where_each_program_wants_it() {
        assert_eq!(arguments(Program::Ssh, &["-v", "true"]), ["a.converge", "-v", "true"]);
        assert_eq!(arguments(Program::Sftp, &["-b", "-"]), ["-b", "-", "a.converge"]);
        assert_eq!(arguments(Program::Sftp, &[":/tmp"]), ["a.converge:/tmp"]);
        assert_eq!(arguments(Program::Scp, &["-r", "x", ":y"]), ["-r", "x", "a.converge:y"]);
    }

    #[test]
    fn status_of_our_proxy_shows_through_only_when_ssh_failed() {
        assert_eq!(exit_code(0, None), 0);
        assert_eq!(exit_code(7, None), 7);
        assert_eq!(exit_code(255, None), 255);
        assert_eq!(exit_code(255, Some(6)), 6);
        assert_eq!(exit_code(1, Some(6)), 6);
        assert_eq!(exit_code(0, Some(7)), 0);
        assert_eq!(exit_code(143, None), 143);
    }

    #[cfg(unix)]
    #[test]
    fn quoting_survives_shells_and_ssh() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("50%'s"), r"'50%%'\''s'");
    }
}
