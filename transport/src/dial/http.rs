//! A connection to a relay for HTTP: its API.

use super::{
    CARRIER_TIMEOUT, Carrier, Cause, DialError, DialOptions, Failure, Route, any, resolve, tcp, trust_config,
    tunnel,
};
use crate::websocket::BoxedIo;
use converge_proto::{RelayUrl, RelayUrls};

/// A connection on which a relay expects HTTP/1.1, and which of the relays it is: the first that is ready. It goes the way
/// of a WebSocket, through the same proxy and with the same trust, whatever carriers the URL allows.
///
/// # Errors
/// [`DialError`].
pub async fn connect<'a>(
    relays: &'a RelayUrls,
    options: &DialOptions,
) -> Result<(BoxedIo, &'a RelayUrl), DialError> {
    any::first(relays, options, any::NEXT_RELAY, |relay| async move {
        connect_to(relay, options).await.map(|io| (io, relay))
    })
    .await
}

async fn connect_to(relay: &RelayUrl, options: &DialOptions) -> Result<BoxedIo, DialError> {
    let trust = trust_config(relay, options)?;
    let route = Route::of(relay, &options.proxy, resolve::of_relay(relay, &options.relays)).await?;
    let connecting = async {
        let io: BoxedIo = match &route {
            Route::Direct(addresses) => Box::new(tcp::connect_to_relay(addresses, &options.relays).await?),
            Route::Through(proxy) => tunnel::connect(proxy, relay).await?,
            Route::Unusable(unusable) => return Err(Cause::UnusableProxy(unusable.clone())),
        };
        tcp::secure(relay, io, &trust).await
    };
    let connected = tokio::time::timeout(CARRIER_TIMEOUT, connecting).await;
    let failed = |cause| {
        let failure = Failure { carrier: Carrier::WebSocket, cause };
        DialError::of(relay, vec![failure], trust.failure())
    };
    connected.unwrap_or(Err(Cause::Silent)).map(|(io, _)| io).map_err(failed)
}
