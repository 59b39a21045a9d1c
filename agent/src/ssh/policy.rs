//! What users may do, as the agent's owner and the owner of a key decided.
//!
//! Both must agree: what the agent's [`Policy`] forbids no key allows, and what a key's options forbid no policy does.
//! A command that the agent forces wins over one that the key forces, as `ForceCommand` does with OpenSSH's server.

use std::fmt;
use std::str::FromStr;

use crate::host_port::HostPort;
use crate::users::authorized_keys::KeyOptions;

/// What users may do. The default is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// What may be forwarded. It limits what goes over SSH's own forwarding only: a user with a shell, or with any
    /// program that opens connections, reaches whatever the job reaches.
    pub forward: ForwardPolicy,
    /// Whether sftp changes nothing. Commands and shells are not affected.
    pub read_only_sftp: bool,
    /// Whether commands may be run, and shells without a terminal, which are commands by another name. A forced
    /// command runs anyway.
    pub exec: bool,
    /// Run instead of whatever anybody asks for, which it finds in `SSH_ORIGINAL_COMMAND`; `internal-sftp` is file
    /// transfer. Wins over a key's own `command=`.
    pub command: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { forward: ForwardPolicy::All, read_only_sftp: false, exec: true, command: None }
    }
}

impl Policy {
    /// The command that is run whatever is asked for, if there is one.
    pub(super) fn forced_command<'a>(&'a self, key: &'a KeyOptions) -> Option<&'a str> {
        self.command.as_deref().or(key.command.as_deref())
    }

    /// Whether a forward is allowed by the agent and by the key.
    pub(super) fn check(&self, key: &KeyOptions, forward: &Forward<'_>) -> Result<(), Denied> {
        if let ForwardPolicy::Only(rules) = &self.forward
            && !rules.iter().any(|rule| rule.allows(forward))
        {
            return Err(Denied { who: "agent", what: forward.deed(), why: "--allow-forward" });
        }
        match key_denial(key, forward) {
            Some(why) => Err(Denied { who: "key", what: forward.deed(), why }),
            None => Ok(()),
        }
    }
}

/// The option that forbids the forward.
fn key_denial(key: &KeyOptions, forward: &Forward<'_>) -> Option<&'static str> {
    if matches!(forward, Forward::Agent) {
        return (!key.agent_forwarding).then_some("no-agent-forwarding");
    }
    if !key.port_forwarding {
        return Some("no-port-forwarding");
    }
    let (permits, option) = match forward {
        Forward::Connect { .. } | Forward::ConnectSocket(_) => (&key.permit_open, "permitopen"),
        _ => (&key.permit_listen, "permitlisten"),
    };
    let permitted = permits.is_empty()
        || match forward {
            Forward::Connect { host, port } | Forward::Listen { host, port } => {
                permits.iter().any(|permit| permit.matches(host, *port))
            }
            // A list of ports has no sockets in it.
            _ => false,
        };
    (!permitted).then_some(option)
}

/// What may be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPolicy {
    /// Everything.
    All,
    /// What one of these allows; without any, nothing.
    Only(Vec<ForwardRule>),
}

/// One thing that may be forwarded. Written `HOST:PORT`, `unix:PATH`, `listen:PORT`, `listen:HOST:PORT`,
/// `listen-unix:PATH` or `agent`; `*` stands for any host, port or path, `*.example.com` for hosts below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardRule {
    /// `-L`, `-D`, `-W` and `-J` to a host and port, as given to ssh: names are not looked up for the comparison.
    Connect(HostPort),
    /// `-L` to a Unix socket; its path as given to ssh, or `*`.
    ConnectSocket(String),
    /// `-R` on a port of the loopback interface; `None`: any.
    ListenLocal(HostPort),
    /// `-R` on a bind address, as given to ssh, and a port.
    Listen(HostPort),
    /// `-R` on a Unix socket; its path as given to ssh, or `*`.
    ListenSocket(String),
    /// `-A`.
    Agent,
}

impl ForwardRule {
    fn allows(&self, forward: &Forward<'_>) -> bool {
        match (self, forward) {
            (Self::Connect(own), Forward::Connect { host, port })
            | (Self::Listen(own), Forward::Listen { host, port }) => own.matches(host, *port),
            (Self::ListenLocal(own), Forward::Listen { host, port }) => {
                LOOPBACK_NAMES.contains(host) && own.matches(host, *port)
            }
            (Self::ConnectSocket(own), Forward::ConnectSocket(path))
            | (Self::ListenSocket(own), Forward::ListenSocket(path)) => own == "*" || own == path,
            (Self::Agent, Forward::Agent) => true,
            _ => false,
        }
    }
}

/// How clients name the loopback interface as a bind address; OpenSSH's says `localhost` when the user says nothing.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why a rule cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a forward: expected HOST:PORT, unix:PATH, listen:PORT, listen:HOST:PORT, listen-unix:PATH or agent"
)]
pub struct NotAForwardRule(String);

impl FromStr for ForwardRule {
    type Err = NotAForwardRule;

    fn from_str(text: &str) -> Result<Self, NotAForwardRule> {
        let path = |path: &str| (!path.is_empty()).then(|| path.to_owned());
        let rule = match text.split_once(':') {
            None if text == "agent" => Some(Self::Agent),
            Some(("unix", socket)) => path(socket).map(Self::ConnectSocket),
            Some(("listen-unix", socket)) => path(socket).map(Self::ListenSocket),
            Some(("listen", port)) if !port.contains(':') => {
                HostPort::parse_bare_port(port).map(Self::ListenLocal)
            }
            Some(("listen", listen)) => HostPort::parse(listen).map(Self::Listen),
            _ => HostPort::parse(text).map(Self::Connect),
        };
        rule.ok_or_else(|| NotAForwardRule(text.to_owned()))
    }
}

/// A forward that a client asks for. Its `Display` is the target alone, as ssh was given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forward<'a> {
    Connect { host: &'a str, port: u32 },
    ConnectSocket(&'a str),
    Listen { host: &'a str, port: u32 },
    ListenSocket(&'a str),
    Agent,
}

impl Forward<'_> {
    /// What events call it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Connect { .. } => "local",
            Self::ConnectSocket(_) => "local_socket",
            Self::Listen { .. } => "remote",
            Self::ListenSocket(_) => "remote_socket",
            Self::Agent => "agent",
        }
    }

    fn deed(self) -> String {
        match self {
            Self::Connect { .. } | Self::ConnectSocket(_) => format!("forwarding to {self}"),
            Self::Listen { .. } | Self::ListenSocket(_) => format!("listening on {self}"),
            Self::Agent => format!("forwarding of {self}"),
        }
    }
}

impl fmt::Display for Forward<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { host, port } | Self::Listen { host, port } if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Self::Connect { host, port } | Self::Listen { host, port } => write!(f, "{host}:{port}"),
            Self::ConnectSocket(path) | Self::ListenSocket(path) => f.write_str(path),
            Self::Agent => f.write_str("the authentication agent"),
        }
    }
}

/// Why a forward is not allowed, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this {who} does not allow {what} ({why})")]
pub(super) struct Denied {
    who: &'static str,
    what: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str]) -> Policy {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        Policy { forward: ForwardPolicy::Only(rules), ..Policy::default() }
    }

    fn allows(policy: &Policy, forward: &Forward<'_>) -> bool {
        policy.check(&KeyOptions::default(), forward).is_ok()
    }

    const ALL: [Forward<'static>; 5] = [
        Forward::Connect { host: "db", port: 5432 },
        Forward::ConnectSocket("/run/docker.sock"),
        Forward::Listen { host: "localhost", port: 8080 },
        Forward::ListenSocket("/tmp/s"),
        Forward::Agent,
    ];

    #[test]
    fn each_rule_allows_its_own_kind_and_nothing_else() {
        for (index, rules) in [
            &["db:5432", "db:*", "*:5432", "*:*", "d?:5432"][..],
            &["unix:/run/docker.sock", "unix:*"],
            &["listen:8080", "listen:*", "listen:localhost:8080", "listen:*:*", "listen:local*:8080"],
            &["listen-unix:/tmp/s", "listen-unix:*"],
            &["agent"],
        ]
        .iter()
        .enumerate()
        {
            for rule in *rules {
                let policy = policy(&[rule]);
                for (other, forward) in ALL.iter().enumerate() {
                    assert_eq!(allows(&policy, forward), index == other, "{rule} {forward:?}");
                }
            }
        }
        assert!(ALL.iter().all(|forward| allows(&Policy::default(), forward)));
        assert!(!ALL.iter().any(|forward| allows(&policy(&[]), forward)));
    }

    #[test]
    fn a_bare_listening_port_is_one_of_the_loopback_interface() {
        let listen = |host, port| Forward::Listen { host, port };
        let policy = policy(&["listen:8080"]);
        assert!(allows(&policy, &listen("::1", 8080)));
        for elsewhere in ["", "*", "0.0.0.0", "::", "10.0.0.1"] {
            assert!(!allows(&policy, &listen(elsewhere, 8080)), "{elsewhere}");
        }
        assert!(!allows(&policy, &listen("localhost", 0)), "any port is another one");
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in
            ["", "db", "unix:", "listen:", "listen-unix:", "listen:x", "Agent", "all", "none", "db:http"]
        {
            assert!(text.parse::<ForwardRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn options_of_the_key_bind_too_and_are_named() {
        let why = |options: &str, forward: &Forward<'_>| {
            let key = KeyOptions::parse(options).expect("options");
            Policy::default().check(&key, forward).err().map(|denied| denied.why)
        };
        let [connect, socket, listen, listen_socket, agent] = ALL;
        for forward in [connect, socket, listen, listen_socket] {
            assert_eq!(why("no-port-forwarding", &forward), Some("no-port-forwarding"));
            assert_eq!(why("restrict", &forward), Some("no-port-forwarding"));
            assert_eq!(why("no-agent-forwarding", &forward), None);
        }
        assert_eq!(why("no-agent-forwarding", &agent), Some("no-agent-forwarding"));
        assert_eq!(why("no-port-forwarding", &agent), None);

        let permitted = r#"permitopen="db:5432",permitopen="[::1]:*",permitlisten="8080""#;
        assert_eq!(why(permitted, &connect), None);
        assert_eq!(why(permitted, &Forward::Connect { host: "::1", port: 9 }), None);
        assert_eq!(why(permitted, &Forward::Connect { host: "db", port: 5433 }), Some("permitopen"));
        assert_eq!(why(permitted, &socket), Some("permitopen"));
        assert_eq!(why(permitted, &listen), None);
        assert_eq!(why(permitted, &Forward::Listen { host: "", port: 8080 }), None);
        assert_eq!(why(permitted, &Forward::Listen { host: "localhost", port: 0 }), Some("permitlisten"));
        assert_eq!(why(permitted, &listen_socket), Some("permitlisten"));
        assert_eq!(why(r#"permitopen="db:5432""#, &listen), None, "as with OpenSSH's server");
    }

    #[test]
    fn the_agents_command_wins_over_the_keys() {
        let key = KeyOptions::parse(r#"command="key's""#).expect("options");
        let mut policy = Policy::default();
        assert_eq!(policy.forced_command(&key), Some("key's"));
        policy.command = Some("agent's".to_owned());
        assert_eq!(policy.forced_command(&key), Some("agent's"));
    }
}
