//! Memory for request bodies, shared by all publishes under way: who finds no room waits, and is cut by the server's own
//! deadline if that takes too long.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body::Body as _;
use tokio::sync::Semaphore;

use super::{Limits, batch, body};

/// Bytes of all bodies together: sixteen of the largest batches, or half a million usual events.
const ROOM_BYTES: usize = 256 << 20;
/// A permit is a KiB.
const UNIT: usize = 1 << 10;

/// See above. Made once for a router.
pub(super) struct Room {
    free: Semaphore,
    limits: Limits,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { free: Semaphore::new(ROOM_BYTES / UNIT), limits })
    }

    /// What a request may take: its length where it tells one, else the most that its kind is allowed.
    fn units(&self, request: &Request) -> u32 {
        let batch = body::has_media_type(request.headers(), batch::NDJSON);
        let most = if batch { body::MAX_BATCH_BYTES } else { body::max_json(&self.limits) };
        let told = request.body().size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = told.unwrap_or(most).min(most).min(ROOM_BYTES - UNIT);
        u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX)
    }
}

/// Middleware: takes room for the body, until the answer is there.
pub(super) async fn wait_for_room(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    // Nobody closes it.
    let _place = room.free.acquire_many(room.units(&request)).await;
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::header::CONTENT_TYPE;

    fn units(media_type: &str, body: Body) -> u32 {
        let request = Request::builder().header(CONTENT_TYPE, media_type).body(body).unwrap();
        Room::new(Limits::default()).units(&request)
    }

    fn endless() -> Body {
        Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>())
    }

    #[test]
    fn a_length_that_is_told_counts_else_the_most_of_its_kind() {
        assert_eq!(units("application/json", Body::empty()), 1);
        assert_eq!(units("application/json", Body::from(vec![0; 5_000])), 5);
        assert_eq!(units("application/json", endless()), 577);
        assert_eq!(units("application/json", Body::from(vec![0; 1 << 20])), 577, "it is not read further");
        assert_eq!(units("application/x-ndjson", endless()), 16_385);
    }

    #[test]
    fn even_the_largest_allowed_body_finds_room_some_day() {
        let limits = Limits { max_data: 1 << 30, ..Limits::default() };
        let request = Request::builder().body(endless()).unwrap();
        assert_eq!(Room::new(limits).units(&request) as usize, ROOM_BYTES / UNIT);
    }
}
