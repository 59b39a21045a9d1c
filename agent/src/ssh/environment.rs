//! The environment of users' programs.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::SessionContext;

/// Variables a client may set (`SendEnv`, `SetEnv`): what a person's terminal and language are, and what git needs.
///
/// A trailing `*` stands for any ending. Everything else is refused, above all what changes which code runs
/// (`LD_*`, `PATH`, `BASH_ENV`, …): a key with a forced command must stay confined to it.
pub const ALLOWED_VARIABLES: [&str; 14] = [
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORFGBG",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "GIT_PROTOCOL",
];

/// How many variables a client may set in one channel; OpenSSH's server takes 128 as well.
const MAX_VARIABLES: usize = 128;
/// How long name and value may be together.
const MAX_VARIABLE_BYTES: usize = 4096;

/// Variables that speak of another SSH connection when the agent itself was started from one.
const STALE_VARIABLES: [&str; 4] = ["SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_ORIGINAL_COMMAND"];

/// What a client has set in one channel.
#[derive(Debug, Default)]
pub(super) struct ClientEnvironment {
    variables: Vec<(String, String)>,
}

impl ClientEnvironment {
    /// Takes a variable if it is allowed and within the limits; says whether it did.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let fits = self.variables.len() < MAX_VARIABLES && name.len() + value.len() <= MAX_VARIABLE_BYTES;
        let accepted = fits && is_allowed(name) && !value.contains('\0');
        if accepted {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
        accepted
    }
}

fn is_allowed(name: &str) -> bool {
    let well_formed =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    well_formed
        && ALLOWED_VARIABLES.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *allowed,
        })
}

/// What is particular to one program; see [`build`].
#[derive(Debug)]
pub(super) struct Particulars<'a> {
    pub(super) client: &'a ClientEnvironment,
    pub(super) key: &'a [(String, String)],
    pub(super) shell: &'a OsStr,
    pub(super) working_dir: &'a OsStr,
    /// Terminal type and name of the terminal.
    pub(super) terminal: Option<(&'a str, &'a OsStr)>,
    pub(super) original_command: Option<&'a OsStr>,
    /// The client's authentication agent. The agent's own, from its start, stays when there is none.
    pub(super) agent_socket: Option<&'a Path>,
}

/// Puts an environment together; later parts win: the agent's own at its start, the session's, the client's, the
/// key's, and what describes this program.
pub(super) fn build(
    inherited: &[(OsString, OsString)],
    context: &SessionContext,
    particulars: &Particulars<'_>,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = inherited
        .iter()
        .filter(|(name, _)| !STALE_VARIABLES.iter().any(|stale| name == stale))
        .cloned()
        .collect();
    let mut add = |name: &str, value: &OsStr| variables.push((name.into(), value.to_owned()));
    for (name, value) in
        context.environment.iter().chain(&particulars.client.variables).chain(particulars.key)
    {
        add(name, value.as_ref());
    }
    add("SHELL", particulars.shell);
    add("PWD", particulars.working_dir);
    if let Some((term, name)) = particulars.terminal {
        add("TERM", term.as_ref());
        add("SSH_TTY", name);
    }
    if let Some(addresses) = &context.addresses {
        let (client, local) = (addresses.client, addresses.local);
        add("SSH_CLIENT", format!("{} {} {}", client.ip(), client.port(), local.port()).as_ref());
        let connection = format!("{} {} {} {}", client.ip(), client.port(), local.ip(), local.port());
        add("SSH_CONNECTION", connection.as_ref());
    }
    if let Some(socket) = particulars.agent_socket {
        add("SSH_AUTH_SOCK", socket.as_os_str());
    }
    if let Some(command) = particulars.original_command {
        add("SSH_ORIGINAL_COMMAND", command);
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_taken() {
        let mut environment = ClientEnvironment::default();
        for name in ["LANG", "LC_ALL", "LC_", "TZ", "COLORTERM", "NO_COLOR", "GIT_PROTOCOL"] {
            assert!(environment.set(name, "value"), "{name}");
        }
        for name in ["", "LD_PRELOAD", "PATH", "BASH_ENV", "LANGX", "lang", "LC_A=B", "LC_\0", "ENV", "SHELL"]
        {
            assert!(!environment.set(name, "value"), "{name}");
        }
        assert!(!environment.set("LANG", "a\0b"));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let mut environment = ClientEnvironment::default();
        assert!(!environment.set("LANG", &"x".repeat(MAX_VARIABLE_BYTES - 3)));
        assert!(environment.set("LANG", &"x".repeat(MAX_VARIABLE_BYTES - 4)));
        for _ in 1..MAX_VARIABLES {
            assert!(environment.set("LANG", "C"));
        }
        assert!(!environment.set("LANG", "C"));
    }

    #[test]
    fn later_parts_win_and_stale_ones_go() {
        let inherited = vec![("SSH_TTY".into(), "/dev/pts/9".into()), ("A".into(), "1".into())];
        let mut context = SessionContext::new("test");
        context.environment.push(("CONVERGE_ID".into(), "x".into()));
        let mut client = ClientEnvironment::default();
        assert!(client.set("TERM", "dumb"));
        let built = build(
            &inherited,
            &context,
            &Particulars {
                client: &client,
                key: &[("A".into(), "2".into())],
                shell: OsStr::new("/bin/sh"),
                working_dir: OsStr::new("/"),
                terminal: Some(("xterm", OsStr::new("/dev/pts/1"))),
                original_command: None,
                agent_socket: None,
            },
        );
        let last =
            |name: &str| built.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
        assert_eq!(last("A"), Some(OsStr::new("2")));
        assert_eq!(last("TERM"), Some(OsStr::new("xterm")));
        assert_eq!(last("SSH_TTY"), Some(OsStr::new("/dev/pts/1")));
        assert_eq!(last("CONVERGE_ID"), Some(OsStr::new("x")));
        assert_eq!(last("SSH_CONNECTION"), None);
    }
}
