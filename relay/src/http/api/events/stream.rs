//! Events as they happen: [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html).

use super::Event;
use crate::{access::Grant, directory::Journal, limits};
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use std::{convert::Infallible, fmt::Write};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

/// Events in one piece: what is held for a reader that does not read. A slower one meets a gap.
const BATCH: usize = 100;

/// One reader of the journal.
struct Reader {
    journal: Journal,
    latest: watch::Receiver<u64>,
    after: u64,
    /// Events about other IDs are left out.
    grant: Grant,
    /// The headers have gone, but nothing else yet.
    is_new: bool,
    draining: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// Streams what is behind `after`, and then what happens, until the relay stops or the reader goes.
pub(super) fn respond(
    journal: Journal,
    after: u64,
    grant: Grant,
    permit: OwnedSemaphorePermit,
    draining: CancellationToken,
) -> Response {
    let latest = journal.latest();
    let reader = Reader { journal, latest, after, grant, is_new: true, draining, _permit: permit };
    let pieces = stream::unfold(reader, async |mut reader| {
        let piece = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies of nginx's kind would otherwise keep events until there are many.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

impl Reader {
    /// What to send next; nothing at the end. Cancel-safe.
    async fn next(&mut self) -> Option<String> {
        if std::mem::take(&mut self.is_new) {
            // So that whoever waits for the first byte knows that the stream is there.
            return Some(": events\n\n".to_owned());
        }
        loop {
            self.latest.borrow_and_update();
            let page = self.journal.since(self.after, BATCH);
            if page.has_gap || !page.events.is_empty() {
                let mut text = String::new();
                if page.has_gap {
                    text.push_str("event: gap\ndata: {}\n\n");
                    // An empty journal is that of a relay that has been started again.
                    self.after = 0;
                }
                for happened in &page.events {
                    self.after = happened.number;
                    if self.grant.admit(happened.what.id()).is_err() {
                        continue;
                    }
                    let event = Event::from(happened);
                    let data = serde_json::to_string(&event).unwrap_or_default();
                    let _ =
                        write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.number, event.what.name());
                }
                if text.is_empty() {
                    continue;
                }
                return Some(text);
            }
            tokio::select! {
                biased; // A relay that stops does not wait for its readers.
                () = self.draining.cancelled() => return None,
                changed = self.latest.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep(limits::EVENT_HEARTBEAT) => return Some(":\n\n".to_owned()),
            }
        }
    }
}
