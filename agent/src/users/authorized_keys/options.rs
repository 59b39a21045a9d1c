//! The options in front of a key, and which of them can be honoured.

use std::time::SystemTime;

use super::expiry;
use crate::host_port::HostPort;

/// What the owner of a key may do, from the options in front of it. The default is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "independent permissions, named as in sshd(8)")]
pub struct KeyOptions {
    /// `command="…"`: runs this instead of whatever is asked for.
    pub command: Option<String>,
    /// `environment="NAME=value"`, in the order of the line.
    pub environment: Vec<(String, String)>,
    /// `expiry-time="…"`: the first instant at which the key is refused.
    pub expires: Option<SystemTime>,
    /// Whether a terminal may be requested (`no-pty`, `restrict`, `pty`).
    pub pty: bool,
    /// `no-port-forwarding`, `restrict`, `port-forwarding`.
    pub port_forwarding: bool,
    /// `permitopen="host:port"`: where connections may be forwarded to; anywhere when there is none.
    pub permit_open: Vec<HostPort>,
    /// `permitlisten="[host:]port"`: where may be listened; anywhere when there is none.
    pub permit_listen: Vec<HostPort>,
    /// `no-agent-forwarding`, `restrict`, `agent-forwarding`.
    pub agent_forwarding: bool,
    /// `no-X11-forwarding`, `restrict`, `X11-forwarding`.
    pub x11_forwarding: bool,
    /// `no-user-rc`, `restrict`, `user-rc`.
    pub user_rc: bool,
    /// `cert-authority`: the key is not a user's, but signs the certificates of users.
    pub cert_authority: bool,
    /// `principals="…"`, with `cert-authority` only: certificates must name one of these.
    pub principals: Option<Vec<String>>,
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            command: None,
            environment: Vec::new(),
            expires: None,
            pty: true,
            port_forwarding: true,
            permit_open: Vec::new(),
            permit_listen: Vec::new(),
            agent_forwarding: true,
            x11_forwarding: true,
            user_rc: true,
            cert_authority: false,
            principals: None,
        }
    }
}

impl KeyOptions {
    /// Whether the key may no longer be used at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Understands a comma-separated list; any option that cannot be honoured is an error.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (name, value, after) = next_option(rest)?;
            options.apply(name, value)?;
            rest = after;
        }
        // sshd ignores it then, and lets in more people than the line seems to.
        if options.principals.is_some() && !options.cert_authority {
            let why = "only makes sense together with cert-authority";
            return Err(OptionError::NotHonoured { name: "principals".to_owned(), why });
        }
        Ok(options)
    }

    fn apply(&mut self, name: &str, value: Option<String>) -> Result<(), OptionError> {
        let lower = name.to_ascii_lowercase();
        let refuse = |why| Err(OptionError::NotHonoured { name: printable(name), why });
        match (lower.as_str(), value) {
            ("restrict", None) => {
                self.pty = false;
                self.port_forwarding = false;
                self.agent_forwarding = false;
                self.x11_forwarding = false;
                self.user_rc = false;
            }
            ("pty", None) => self.pty = true,
            ("no-pty", None) => self.pty = false,
            ("port-forwarding", None) => self.port_forwarding = true,
            ("no-port-forwarding", None) => self.port_forwarding = false,
            ("agent-forwarding", None) => self.agent_forwarding = true,
            ("no-agent-forwarding", None) => self.agent_forwarding = false,
            ("x11-forwarding", None) => self.x11_forwarding = true,
            ("no-x11-forwarding", None) => self.x11_forwarding = false,
            ("user-rc", None) => self.user_rc = true,
            ("no-user-rc", None) => self.user_rc = false,
            ("command", Some(_)) if self.command.is_some() => return refuse("given twice"),
            ("command", Some(command)) => self.command = Some(command),
            ("expiry-time", Some(_)) if self.expires.is_some() => return refuse("given twice"),
            ("expiry-time", Some(time)) => match expiry::parse(&time) {
                Ok(expires) => self.expires = Some(expires),
                Err(why) => return refuse(why),
            },
            ("environment", Some(assignment)) => match split_assignment(&assignment) {
                Some(pair) => self.environment.push(pair),
                None => return refuse("expected NAME=value"),
            },
            ("cert-authority", None) => self.cert_authority = true,
            ("principals", Some(_)) if self.principals.is_some() => return refuse("given twice"),
            ("principals", Some(list)) => match principals(&list) {
                Some(names) => self.principals = Some(names),
                None => return refuse("expected names with commas between them"),
            },
            ("permitopen", Some(permit)) => {
                match HostPort::parse(&permit).filter(HostPort::is_literal_or_any) {
                    Some(permit) => self.permit_open.push(permit),
                    None => return refuse("expected host:port, where the port may be *"),
                }
            }
            ("permitlisten", Some(permit)) => match HostPort::parse_bare_port(&permit) {
                Some(permit) => self.permit_listen.push(permit),
                None => return refuse("expected [host:]port, where the port may be *"),
            },
            ("from", Some(_)) => {
                return refuse("the agent cannot know the address of a person behind a relay");
            }
            (
                "command" | "expiry-time" | "environment" | "from" | "principals" | "permitopen"
                | "permitlisten" | "tunnel",
                None,
            ) => return refuse("needs a value in double quotes"),
            (
                "restrict"
                | "pty"
                | "no-pty"
                | "port-forwarding"
                | "no-port-forwarding"
                | "agent-forwarding"
                | "no-agent-forwarding"
                | "x11-forwarding"
                | "no-x11-forwarding"
                | "user-rc"
                | "no-user-rc"
                | "cert-authority",
                Some(_),
            ) => return refuse("takes no value"),
            _ => return refuse("this agent does not support it, and an option is never ignored"),
        }
        Ok(())
    }
}

/// Why a key's options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A double quote is missing at the end.
    #[error("a double quote is not closed")]
    UnclosedQuote,
    /// Something follows a quoted value that is neither a comma nor the key.
    #[error("expected a comma or a space after a quoted value")]
    AfterQuote,
    /// Two commas in a row, or a comma at an end.
    #[error("an option is empty")]
    Empty,
    /// A byte that no program can be given, or text that is not UTF-8.
    #[error("unprintable characters in an option")]
    Unprintable,
    /// A known or unknown option that is not honoured here.
    #[error("option {name}: {why}")]
    NotHonoured {
        /// The option's name, shortened and printable.
        name: String,
        /// Why not.
        why: &'static str,
    },
}

/// Splits a line into its options and the rest: options end at the first blank outside double quotes.
pub(super) fn split(line: &str) -> Result<(&str, &str), OptionError> {
    let mut quoted = false;
    let mut escaped = false;
    for (index, character) in line.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                return Ok((&line[..index], line[index..].trim_start_matches([' ', '\t'])));
            }
            _ => {}
        }
        // As in sshd: a backslash escapes a double quote and nothing else.
        escaped = character == '\\';
    }
    if quoted { Err(OptionError::UnclosedQuote) } else { Ok((line, "")) }
}

/// The first option of a list: name, value without its quotes, and the rest behind the comma.
fn next_option(list: &str) -> Result<(&str, Option<String>, &str), OptionError> {
    let end = list.find(['=', ',']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    if name.is_empty() {
        return Err(OptionError::Empty);
    }
    let (value, rest) = match rest.strip_prefix('=') {
        Some(value) => {
            let (value, rest) = unquote(value)?;
            (Some(value), rest)
        }
        None => (None, rest),
    };
    match rest.strip_prefix(',') {
        Some("") => Err(OptionError::Empty),
        Some(after) => Ok((name, value, after)),
        None if rest.is_empty() => Ok((name, value, rest)),
        None => Err(OptionError::AfterQuote),
    }
}

fn unquote(text: &str) -> Result<(String, &str), OptionError> {
    let Some(text) = text.strip_prefix('"') else { return Err(OptionError::UnclosedQuote) };
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' if characters.next_if(|&(_, next)| next == '"').is_some() => value.push('"'),
            '\0' | char::REPLACEMENT_CHARACTER => return Err(OptionError::Unprintable),
            _ => value.push(character),
        }
    }
    Err(OptionError::UnclosedQuote)
}

fn split_assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    named.then(|| (name.to_owned(), value.to_owned()))
}

fn principals(list: &str) -> Option<Vec<String>> {
    let names: Vec<_> = list.split(',').map(|name| name.trim().to_owned()).collect();
    names.iter().all(|name| !name.is_empty()).then_some(names)
}

fn printable(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect()
}
