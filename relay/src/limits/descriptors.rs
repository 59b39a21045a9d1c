//! File descriptors: each TCP connection needs one, so the limits are worth nothing when the system's own is lower.

use super::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// What else is open: listeners, files, what the runtime needs.
const OTHERS: u64 = 100;

/// Raises the soft limit on open files to the hard one, and says when that is too low for the connections there may be.
pub(crate) fn raise(limits: &Limits) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut have = current;
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => have = maximum,
            Err(error) => debug!(%error, "cannot raise the limit on open files"),
        }
    }
    let wanted = u64::from(limits.connections) + OTHERS;
    if let Some(have) = have
        && (limits.connections == 0 || have < wanted)
    {
        warn!(
            open_files = have,
            wanted,
            "the system allows fewer open files than --max-connections may need; raise LimitNOFILE= (systemd), \
             --ulimit nofile (containers) or ulimit -n, or lower --max-connections"
        );
    }
}
