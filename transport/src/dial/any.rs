//! Several relays of which any will do: dialing them until one is there.

use super::{DIALS, DialError, DialOptions, Role, dial_one, race};
use crate::link::Link;
use converge_proto::{RelayUrl, RelayUrls};
use std::time::Duration;
use tracing::{debug, warn};

pub(super) use race::NEXT_RELAY;

/// Makes a link to one of these relays, over the carriers that its URL allows: to the one that is ready first. They are begun
/// with one after the other, in an order of chance in which what is known counts more ([`RelayMemory`](super::RelayMemory)),
/// the next one half a second after the one before it, or when that has failed. Of one relay it is
/// [`dial`](super::dial()), with the same errors. Which it has become says [`Link::place`].
///
/// At most eight dials of a process are in progress at once; more wait. Dropped, it leaves nothing behind.
///
/// # Errors
/// [`DialError`]; [`DialError::Several`] when there are several and none can be used.
pub async fn dial_any(relays: &RelayUrls, options: &DialOptions, role: Role<'_>) -> Result<Link, DialError> {
    // The semaphore is never closed.
    let _turn = DIALS.acquire().await;
    let pause = match role {
        Role::Agent | Role::Client(_) => NEXT_RELAY,
        // Its session begins with the link, and two would be one too many.
        Role::RawClient(..) => Duration::MAX,
    };
    // Boxed: there may be many at a time.
    first(relays, options, pause, |relay| Box::pin(dial_one(relay, options, role))).await
}

/// What `attempt` makes of the first relay that is ready.
pub(super) async fn first<'a, T, F>(
    relays: &'a RelayUrls,
    options: &DialOptions,
    pause: Duration,
    attempt: impl Fn(&'a RelayUrl) -> F,
) -> Result<T, DialError>
where
    F: Future<Output = Result<T, DialError>>,
{
    let order = options.relays.relays(relays);
    let attempt = &attempt;
    let racing = race::in_turn(&order, pause, |relay| async move {
        let result = attempt(relay).await;
        result.map_err(|error| {
            options.relays.leave_relay(relay);
            if relays.are_several() {
                // Nobody is told when another relay does instead, and this will not mend itself.
                if error.may_pass() {
                    debug!(relay = %relay.authority(), %error, "this relay cannot be used");
                } else {
                    warn!(relay = %relay.authority(), %error, "this relay cannot be used");
                }
            }
            (relay, error)
        })
    });
    racing.await.map_err(|failures| DialError::of_all(relays, failures))
}
