//! The lines to copy: how people reach this agent.

use converge_proto::{Address, CarrierChoice, HostKey, Id, RelayUrl};
use std::fmt::{self, Write};

/// How an agent can be reached, as text for the CI log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    relay: RelayUrl,
    id: Id,
    host_key: HostKey,
}

impl Announcement {
    /// What to print for an agent with this ID and key on this relay.
    pub fn new(relay: RelayUrl, id: Id, host_key: HostKey) -> Self {
        Self { relay, id, host_key }
    }

    /// The ID under which the agent can be reached.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What people copy to reach the agent: relay, ID and fingerprint.
    pub fn address(&self) -> Address {
        let fingerprint = Some(self.host_key.fingerprint());
        Address { id: self.id.clone(), fingerprint, relay: Some(self.relay.clone()) }
    }

    /// The line to copy, with the converge client.
    pub fn ssh_command(&self) -> String {
        format!("converge ssh '{}'", self.address())
    }

    /// The same for files.
    pub fn sftp_command(&self) -> String {
        format!("converge sftp '{}'", self.address())
    }

    /// Plain ssh through a foreign tool. The host key is on the line itself, so nothing between can pretend to be
    /// the agent, and nobody is asked.
    pub fn plain_ssh(&self) -> String {
        let websocket = self
            .relay
            .with_scheme(self.relay.websocket_scheme(), &format!("{}/{}", Address::CLIENT_PATH, self.id));
        // The tool knows no pin; what it would check, ssh checks better.
        let unchecked = if self.relay.pin().is_some() { "-k " } else { "" };
        let host = format!("{}{}", self.id, Address::SUFFIX);
        format!(
            "ssh -o ProxyCommand='websocat --binary -E {unchecked}{websocket}' \
             -o KnownHostsCommand='/bin/echo {host} {}' {host}",
            self.host_key.to_openssh(),
        )
    }

    /// The relay's page with more ways.
    pub fn page(&self) -> String {
        let short = self.address().short();
        self.relay.with_scheme(self.relay.http_scheme(), &format!("{}/{short}", Address::CLIENT_PATH))
    }
}

/// The relay's URL for people, of the one that the relay tells and the one that this agent has dialed.
///
/// What checks a pin is TLS at one place, and behind a balancer that ends TLS the relay's own certificate is not the one that
/// people see. So the pin that this agent was given counts for the place that it has dialed, and anywhere else only the
/// relay knows.
pub(crate) fn relay_for_people(told: Option<RelayUrl>, dialed: &RelayUrl) -> RelayUrl {
    let relay = match told {
        Some(told) if told.has_tls() && told.authority() == dialed.authority() => {
            let pin = dialed.pin().or(told.pin());
            told.with_pin(pin)
        }
        Some(told) => told,
        None => dialed.clone(),
    };
    // Which carriers get through from here says nothing about where people are.
    relay.with_carriers(CarrierChoice::Auto)
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "This job is open for ssh as {}.\n", self.id)?;
        writeln!(f, "  with the converge client:")?;
        writeln!(f, "    {}", self.ssh_command())?;
        writeln!(f, "    {}", self.sftp_command())?;
        writeln!(f, "  with plain ssh and websocat:")?;
        writeln!(f, "    {}", self.plain_ssh())?;
        writeln!(f, "  more ways:")?;
        writeln!(f, "    {}", self.page())?;
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssh_key::{
        PrivateKey,
        private::{Ed25519Keypair, KeypairData},
    };

    fn announcement(relay: &str) -> String {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32]));
        let key = PrivateKey::new(pair, "").unwrap();
        let host_key = HostKey::new(key.public_key()).unwrap();
        Announcement::new(relay.parse().unwrap(), "lusab-babad".parse().unwrap(), host_key).to_string()
    }

    #[test]
    fn address_carries_fingerprint_and_pin() {
        let pin = "pin-sha256=".to_owned() + &"A".repeat(43);
        let text = announcement(&format!("https://relay:4433/base#{pin}"));
        let line = text.lines().find_map(|line| line.trim().strip_prefix("converge ssh ")).unwrap();
        let address: Address = line.trim_matches('\'').parse().unwrap();
        assert_eq!(address.id.as_str(), "lusab-babad");
        assert!(address.fingerprint.is_some());
        assert_eq!(address.relay.unwrap().to_string(), format!("https://relay:4433/base#{pin}"));
        assert!(text.contains("websocat --binary -E -k wss://relay:4433/base/client/lusab-babad'"), "{text}");
    }

    #[test]
    fn pins_are_those_of_the_place_that_people_reach() {
        let [given, told] = ["A", "B"].map(|letter| format!("#pin-sha256={}", letter.repeat(42) + "A"));
        for (public, dialed, shown) in [
            (None, format!("quic://10.0.0.5:4433{given}"), format!("https://10.0.0.5:4433{given}")),
            // A balancer ends TLS there.
            (
                Some("https://ci.example/sub".to_owned()),
                format!("wss://10.0.0.5:4433{given}"),
                "https://ci.example/sub".to_owned(),
            ),
            // The relay itself does.
            (
                Some(format!("https://relay:4433{told}")),
                format!("https://10.0.0.5:4433{given}"),
                format!("https://relay:4433{told}"),
            ),
            (
                Some(format!("https://relay:4433{told}")),
                "ws://10.0.0.5:80".to_owned(),
                format!("https://relay:4433{told}"),
            ),
            // This agent has been there.
            (
                Some("https://relay:4433".to_owned()),
                format!("quic://relay:4433{given}"),
                format!("https://relay:4433{given}"),
            ),
            (
                Some(format!("https://relay:4433{told}")),
                format!("https://relay:4433{given}"),
                format!("https://relay:4433{given}"),
            ),
            (Some("ws://relay:80".to_owned()), format!("https://relay:80{given}"), "ws://relay".to_owned()),
        ] {
            let people =
                relay_for_people(public.as_ref().map(|url| url.parse().unwrap()), &dialed.parse().unwrap());
            assert_eq!(people.to_string(), shown, "told {public:?}, dialed {dialed}");
        }
    }

    #[test]
    fn plain_ssh_is_given_the_host_key_itself() {
        let text = announcement("ws://relay:80");
        assert!(text.contains("websocat --binary -E ws://relay/client/lusab-babad'"), "{text}");
        assert!(text.contains("'/bin/echo lusab-babad.converge ssh-ed25519 AAAA"), "{text}");
        assert!(text.contains("http://relay/client/lusab-babad."), "{text}");
    }
}
