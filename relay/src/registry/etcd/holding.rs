//! What etcd says of an ID and of a relay: JSON, so that an operator can read it with `etcdctl`.

use converge_proto::{HostKey, RelayNumber, rendezvous::SecretHash};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One run of a relay: another one each time it starts. What an earlier run held is nobody's any more, but reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Run(u64);

impl Run {
    /// A new one.
    pub(super) fn new() -> Self {
        // Below 2^53, so that any reader of JSON has it whole.
        Self(rand::random::<u64>() >> 11)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Whose an ID is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) enum Holding {
    /// An agent's.
    Held(Box<Held>),
    /// That of the bearer of this token, who has not come yet.
    Promised {
        /// Of the token.
        secret: SecretHash,
        /// When the promise ends, in seconds since 1970. Its lease ends it; this is for those who show it.
        until: u64,
    },
}

/// An agent's hold on an ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// At which relay it is, or was last.
    pub(super) relay: RelayNumber,
    /// Of that relay.
    pub(super) run: Run,
    /// The agent's key.
    pub(super) host_key: HostKey,
    /// The token that the ID was reserved for.
    pub(super) secret: Option<SecretHash>,
    /// What a CI system has said of the job and signed, for people.
    pub(super) claims: Option<String>,
}

/// As it is written: all kinds with the same names.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Run>,
    /// `ssh-ed25519 AAAA…`
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// For people only.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl From<Holding> for Written {
    fn from(holding: Holding) -> Self {
        let hex = |secret: SecretHash| HEXLOWER.encode(secret.as_bytes());
        match holding {
            Holding::Held(held) => Self {
                relay: Some(held.relay.get()),
                run: Some(held.run),
                fingerprint: Some(held.host_key.fingerprint().to_string()),
                key: Some(held.host_key.to_openssh()),
                claims: held.claims,
                secret_sha256: held.secret.map(hex),
                until: None,
            },
            Holding::Promised { secret, until } => Self {
                relay: None,
                run: None,
                key: None,
                fingerprint: None,
                claims: None,
                secret_sha256: Some(hex(secret)),
                until: Some(until),
            },
        }
    }
}

impl TryFrom<Written> for Holding {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let secret = written.secret_sha256.as_deref().map(secret_of).transpose()?;
        match written {
            Written { relay: Some(relay), run: Some(run), key: Some(key), claims, .. } => {
                let relay = RelayNumber::new(relay).ok_or("the relay's number is none")?;
                Ok(Self::Held(Box::new(Held { relay, run, host_key: key_of(&key)?, secret, claims })))
            }
            Written { until: Some(until), .. } => {
                Ok(Self::Promised { secret: secret.ok_or("a promise to nobody")?, until })
            }
            _ => Err("neither held nor promised"),
        }
    }
}

fn secret_of(hex: &str) -> Result<SecretHash, &'static str> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(SecretHash::from_bytes).ok_or("secret_sha256 is not 32 bytes in hexadecimal")
}

fn key_of(text: &str) -> Result<HostKey, &'static str> {
    let blob = text.split(' ').nth(1).and_then(|blob| BASE64.decode(blob.as_bytes()).ok());
    blob.and_then(|blob| HostKey::from_blob(&blob).ok()).ok_or("the key is not a host key")
}

/// A relay of the cluster, as it makes itself known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayEntry {
    /// Since it has started.
    pub(crate) run: Run,
    /// Where the other relays reach it: `host:port`, UDP.
    pub(crate) address: String,
    /// Where agents and clients reach it alone, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// Its version, for people.
    pub(crate) version: String,
    /// It is about to stop.
    #[serde(default)]
    pub(crate) draining: bool,
}

#[cfg(test)]
mod tests {
    use super::{super::tests::host_key, *};

    #[test]
    fn written_and_read_it_is_the_same() {
        let secret = SecretHash::from_bytes([7; 32]);
        let held = Held {
            relay: RelayNumber::new(3).unwrap(),
            run: Run(0x1234),
            host_key: host_key(1),
            secret: None,
            claims: Some("repository a/b".to_owned()),
        };
        for holding in [
            Holding::Held(Box::new(held.clone())),
            Holding::Held(Box::new(Held { secret: Some(secret), claims: None, ..held })),
            Holding::Promised { secret, until: 1_800_000_000 },
        ] {
            let text = serde_json::to_string(&holding).unwrap();
            assert_eq!(serde_json::from_str::<Holding>(&text).unwrap(), holding, "{text}");
        }
    }

    /// What relays of a release have written stays here as it is: those of the next one read it, and write what those read.
    #[test]
    fn what_relays_of_another_release_write_is_read_and_written_so() {
        let (run, host_key, secret) = (Run(0x1234), host_key(1), SecretHash::from_bytes([7; 32]));
        let relay = RelayNumber::new(3).unwrap();
        let held = Held { relay, run, host_key, secret: None, claims: None };
        let full = Held { secret: Some(secret), claims: Some("repository a/b".to_owned()), ..held.clone() };
        let key = concat!(
            r#""key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c","#,
            r#""fingerprint":"pxxtsjsceor4kt334xvf""#
        );
        let hex = "07".repeat(32);
        let full_text =
            format!(r#"{{"relay":3,"run":4660,{key},"claims":"repository a/b","secret_sha256":"{hex}"}}"#);
        for (text, holding) in [
            (format!(r#"{{"relay":3,"run":4660,{key}}}"#), Holding::Held(Box::new(held))),
            (full_text, Holding::Held(Box::new(full))),
            (
                format!(r#"{{"secret_sha256":"{hex}","until":1800000000}}"#),
                Holding::Promised { secret, until: 1_800_000_000 },
            ),
        ] {
            assert_eq!(serde_json::from_str::<Holding>(&text).unwrap(), holding, "{text}");
            assert_eq!(serde_json::to_string(&holding).unwrap(), text);
            let newer = newer(&text);
            assert_eq!(serde_json::from_str::<Holding>(&newer).unwrap(), holding, "{newer}");
        }
        let entry = RelayEntry {
            run,
            address: "192.0.2.1:4434".to_owned(),
            url: None,
            version: "0.1.0".to_owned(),
            draining: false,
        };
        let full = RelayEntry { url: Some("https://1.example".to_owned()), draining: true, ..entry.clone() };
        let start = r#"{"run":4660,"address":"192.0.2.1:4434""#;
        for (text, entry) in [
            (format!(r#"{start},"version":"0.1.0","draining":false}}"#), entry),
            (format!(r#"{start},"url":"https://1.example","version":"0.1.0","draining":true}}"#), full),
        ] {
            assert_eq!(serde_json::from_str::<RelayEntry>(&text).unwrap(), entry, "{text}");
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
            let newer = newer(&text);
            assert_eq!(serde_json::from_str::<RelayEntry>(&newer).unwrap(), entry, "{newer}");
        }
    }

    #[test]
    fn what_somebody_else_has_written_is_refused() {
        for text in [
            "{}",
            "[]",
            r#"{"relay":1,"run":1}"#,
            r#"{"relay":0,"run":1,"key":"ssh-ed25519 AAAA"}"#,
            r#"{"relay":1,"run":1,"key":"ssh-ed25519 AAAA"}"#,
            r#"{"until":1}"#,
            r#"{"until":1,"secret_sha256":"00"}"#,
        ] {
            assert!(serde_json::from_str::<Holding>(text).is_err(), "{text}");
        }
    }

    /// The same with more than this release knows.
    fn newer(text: &str) -> String {
        text.replacen('{', r#"{"of_a_newer_relay":{"a":[1.5,null]},"#, 1)
    }
}
