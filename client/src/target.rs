//! Which agent, on which relay, dialed how.

use crate::{config_file::ConfigFile, error::ClientError, platform};
use converge_proto::{Address, CarrierChoice, HostKey, RelayUrls, rendezvous::Token};
use converge_transport::{CarrierMemory, DialOptions, ProxyChoice};
use std::{sync::Arc, time::Duration};

/// Everything that is needed to join a session.
#[derive(Clone, Debug)]
pub struct Target {
    /// The agent.
    pub address: Address,
    /// The relay the agent is on, or several of which any will do.
    pub relays: RelayUrls,
    /// How to dial the relay.
    pub options: DialOptions,
    /// What the relay is shown.
    pub token: Option<Token>,
    /// How long to wait for an agent that is not there yet.
    pub wait: Duration,
    /// Say nothing but errors.
    pub quiet: bool,
}

/// What the command line says besides the address.
#[derive(Clone, Debug, Default)]
pub struct TargetOptions {
    /// `--relay`.
    pub relays: Option<RelayUrls>,
    /// `--transport`.
    pub carriers: Option<CarrierChoice>,
    /// `--insecure`.
    pub insecure: bool,
    /// `--proxy`; without it the environment decides.
    pub proxy: Option<ProxyChoice>,
    /// `--token` or `--token-file`.
    pub token: Option<Token>,
    /// `--wait`.
    pub wait: Duration,
    /// `--quiet`.
    pub quiet: bool,
}

impl Target {
    /// Finds the relay: from the address, the command line (or environment), or the user's configuration file.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when none of them names one.
    pub fn new(address: Address, options: TargetOptions) -> Result<Self, ClientError> {
        let TargetOptions { relays, carriers, insecure, proxy, token, wait, quiet } = options;
        let relays = match address.relay.clone().map(RelayUrls::from).or(relays) {
            Some(relays) => relays,
            None => ConfigFile::load()?.relays.ok_or_else(|| {
                ClientError::Usage(format!(
                    "no relay is known for {}: use the whole address from the job's log, or give --relay, \
                     CONVERGE_RELAY or a configuration file",
                    address.short()
                ))
            })?,
        };
        let token = match token {
            Some(token) => Some(token),
            None => ConfigFile::load()?.token_for(&relays)?,
        };
        let relays = match carriers {
            Some(carriers) => relays.with_carriers(carriers),
            None => relays,
        };
        let options = DialOptions {
            insecure,
            proxy: proxy.unwrap_or_else(ProxyChoice::from_environment),
            memory: Some(Arc::new(carrier_memory())),
            // A relay asks agents only who they are in this way.
            client_certificate: None,
            relays: Arc::default(),
        };
        Ok(Self { address, relays, options, token, wait, quiet })
    }

    /// The address with its relay or relays, for the command line of a child process that has no configuration of its own: an
    /// address, with options in front of it where that cannot name them all.
    pub fn whole_address(&self) -> Vec<String> {
        if self.relays.are_several() {
            vec!["--relay".to_owned(), self.relays.to_string(), self.address.short()]
        } else {
            let relay = Some(self.relays.first().clone());
            vec![Address { relay, ..self.address.clone() }.to_string()]
        }
    }

    /// Says on standard error what the person has given up, if they have.
    pub fn say_insecure(&self) {
        if self.options.insecure {
            self.say("--insecure: the relay's certificate is not verified");
        }
    }

    /// The host name that ssh is given.
    pub fn host_name(&self) -> String {
        format!("{}{}", self.address.id, Address::SUFFIX)
    }

    /// Whether this is the agent that the address names; says so when the address does not tell.
    ///
    /// # Errors
    /// [`ClientError::HostKeyMismatch`].
    pub fn check_host_key(&self, host_key: &HostKey) -> Result<(), ClientError> {
        let seen = host_key.fingerprint();
        match &self.address.fingerprint {
            Some(expected) if *expected == seen => Ok(()),
            Some(expected) => Err(ClientError::HostKeyMismatch { expected: expected.clone(), seen }),
            None => {
                self.say(&format!(
                    "the address has no fingerprint, so the relay vouches for the host key; to rely on nobody use {}.{seen}",
                    self.address.id
                ));
                Ok(())
            }
        }
    }

    /// Tells the person that the relay waits for the agent for so long.
    pub fn say_waiting(&self, left: Duration) {
        // Whole seconds, rounded up.
        let left = Duration::from_secs((left + Duration::from_millis(999)).as_secs());
        let left = humantime::format_duration(left);
        self.say(&format!("no agent has the ID {} yet; waiting for up to {left}", self.address.id));
    }

    /// One line for the person, unless they want none.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            say(line);
        }
    }
}

/// `converge/carriers` in `$XDG_CACHE_HOME`, else in `~/.cache`; in a home without either for this process only.
fn carrier_memory() -> CarrierMemory {
    match platform::CACHE.directory() {
        Some(cache) => CarrierMemory::kept_in(cache.join("converge").join("carriers")),
        None => CarrierMemory::in_process(),
    }
}

/// One line on standard error. That nobody listens there is no reason to fail.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "converge: {line}");
}
