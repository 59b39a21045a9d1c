//! `converge config`: the block for `~/.ssh/config` that makes `ssh ID.converge` just work.

use crate::openssh::{CIPHERS, quoted};
use converge_proto::{Address, RelayUrls};
use std::path::Path;

/// The block, for a client at `program` and, when they are given, the relays to name on its command lines.
pub fn block(program: &Path, relays: Option<&RelayUrls>) -> String {
    let program = quoted(&program.to_string_lossy());
    let relay = relays.map(|relays| format!("--relay {} ", quoted(&relays.to_string()))).unwrap_or_default();
    format!(
        "# Converge: ssh ID{suffix} or ID.FINGERPRINT{suffix}. The host key comes from the agent, so nothing is asked\n\
         # and nothing is stored. ServerAliveInterval stays off: the client itself notices a dead connection.\n\
         Host *{suffix}\n    \
             ProxyCommand {program} proxy {relay}%h\n    \
             KnownHostsCommand {program} host-key --quiet {relay}%H\n    \
             StrictHostKeyChecking yes\n    \
             UserKnownHostsFile /dev/null\n    \
             GlobalKnownHostsFile /dev/null\n    \
             UpdateHostKeys no\n    \
             CheckHostIP no\n    \
             ServerAliveInterval 0\n    \
             Ciphers {CIPHERS}\n",
        suffix = Address::SUFFIX,
    )
}
