//! The lines to copy: how people reach this agent.

use converge_proto::{Address, CarrierChoice, HostKey, Id, RelayUrl, RelayUrls};
use std::fmt::{self, Write};

/// How an agent can be reached, as text for the CI log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The one that the agent is on now.
    relay: RelayUrl,
    /// All that it may be on later.
    relays: RelayUrls,
    id: Id,
    host_key: HostKey,
}

impl Announcement {
    /// What to print for an agent with this ID and key on this relay.
    pub fn new(relay: RelayUrl, id: Id, host_key: HostKey) -> Self {
        Self { relays: relay.clone().into(), relay, id, host_key }
    }

    /// The same for an agent that may be on any of these relays tomorrow.
    #[must_use]
    pub fn with_relays(self, relays: RelayUrls) -> Self {
        Self { relays, ..self }
    }

    /// The ID under which the agent can be reached.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What people copy to reach the agent where it is now: relay, ID and fingerprint.
    pub fn address(&self) -> Address {
        let fingerprint = Some(self.host_key.fingerprint());
        Address { id: self.id.clone(), fingerprint, relay: Some(self.relay.clone()) }
    }

    /// The line to copy, with the converge client.
    pub fn ssh_command(&self) -> String {
        self.command("ssh")
    }

    /// The same for files.
    pub fn sftp_command(&self) -> String {
        self.command("sftp")
    }

    /// With all relays, so that the line goes on working when the one of now is gone.
    fn command(&self, command: &str) -> String {
        if self.relays.are_several() {
            format!("converge {command} --relay '{}' {}", self.relays, self.address().short())
        } else {
            format!("converge {command} '{}'", self.address())
        }
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

/// The relays for people, when this agent was `given` some, has `dialed` one of them, and was `told` by it under which URL
/// people reach it.
///
/// A relay that says it is one of those that were given is one of several, and people are shown all of them. One that names
/// another place, such as the common name of a cluster, knows better than this agent what people can reach.
pub(crate) fn relays_for_people(told: Option<&RelayUrl>, dialed: &RelayUrl, given: &RelayUrls) -> RelayUrls {
    let here = relay_for_people(told.cloned(), dialed);
    if told.is_some_and(|told| !given.iter().any(|given| given.is_same_host(told))) {
        return here.into();
    }
    let for_people = |relay: &RelayUrl| {
        if relay.is_same_relay(dialed) && here.is_same_host(dialed) {
            here.clone()
        } else {
            relay.clone().with_carriers(CarrierChoice::Auto)
        }
    };
    // Where the relay's own words make two of them the same, one is enough.
    RelayUrls::new(given.iter().map(for_people)).unwrap_or_else(|_| here.clone().into())
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
    fn people_are_shown_all_relays_unless_they_have_a_name_in_common() {
        let pin = |letter: &str| format!("#pin-sha256={}", letter.repeat(42) + "A");
        let given: RelayUrls =
            format!("quic://r1:4433{0},wss://r2{1},ws://r3", pin("A"), pin("B")).parse().unwrap();
        let all = format!("https://r1:4433{0},https://r2{1},ws://r3", pin("A"), pin("B"));
        for (told, dialed, shown) in [
            (None, 0, all.clone()),
            (None, 2, all.clone()),
            // Each says its own name.
            (Some("https://r1:4433"), 0, all.clone()),
            (Some("https://r2"), 1, all.clone()),
            (Some("ws://r3"), 2, all.clone()),
            // All say the first one's.
            (Some("https://r1:4433"), 1, all.clone()),
            (Some("https://r2/sub"), 1, all.replace("https://r2", "https://r2/sub")),
            // A name for all.
            (Some("https://relay.example"), 0, "https://relay.example".to_owned()),
            (Some("https://r1"), 0, "https://r1".to_owned()),
        ] {
            let told = told.map(|url| url.parse().unwrap());
            let dialed = given.iter().nth(dialed).unwrap();
            let relays = relays_for_people(told.as_ref(), dialed, &given);
            assert_eq!(relays.to_string(), shown, "told {told:?}, dialed {dialed}");
        }
    }

    #[test]
    fn line_to_copy_names_all_relays_and_is_one_address_when_there_is_one() {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32]));
        let host_key = HostKey::new(PrivateKey::new(pair, "").unwrap().public_key()).unwrap();
        let one = Announcement::new("https://a".parse().unwrap(), "lusab-babad".parse().unwrap(), host_key);
        let short = one.address().short();
        assert_eq!(one.ssh_command(), format!("converge ssh 'https://a/client/{short}'"));
        let several = one.with_relays("https://a,https://b".parse().unwrap());
        assert_eq!(several.ssh_command(), format!("converge ssh --relay 'https://a,https://b' {short}"));
        assert_eq!(several.sftp_command(), format!("converge sftp --relay 'https://a,https://b' {short}"));
        assert_eq!(several.page(), format!("https://a/client/{short}"));
    }

    #[test]
    fn plain_ssh_is_given_the_host_key_itself() {
        let text = announcement("ws://relay:80");
        assert!(text.contains("websocat --binary -E ws://relay/client/lusab-babad'"), "{text}");
        assert!(text.contains("'/bin/echo lusab-babad.converge ssh-ed25519 AAAA"), "{text}");
        assert!(text.contains("http://relay/client/lusab-babad."), "{text}");
    }
}
