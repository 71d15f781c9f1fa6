//! Memory for request bodies, shared by all that are under way: who finds no room waits, and is cut by the server's own
//! deadline if that takes too long. Nobody has more than a quarter of it: whoever sends slowly, or nothing, holds up themselves.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use http_body::Body as _;
use shared::auth::{Access, AuthError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;
use super::rate::Key;
use super::{Limits, batch, body};

/// Bytes of all batches together: twelve of the largest.
const BATCH_BYTES: usize = 192 << 20;
/// Bytes of all other bodies: a hundred of which nobody knows how long they are, or tens of thousands of usual events. Apart from
/// the batches, so that those do not hold up a single event.
const SINGLE_BYTES: usize = 64 << 20;
/// A permit is a KiB.
const UNIT: usize = 1 << 10;
/// What one place has of a room: an eighth. The largest body of either room is smaller.
const SHARE: usize = 8;
/// Keys are counted in twice so many places, each key in one of either half, chosen at random: two keys seldom have one in common, and
/// then neither holds up the other; both in common is one pair in a quarter of a million.
const HALF: usize = 512;

/// Memory for bodies. Share it by reference.
pub struct Room {
    free: Semaphore,
    /// What is left to the keys of each place.
    shares: Box<[Semaphore]>,
    hasher: RandomState,
    /// Units of a share.
    share: usize,
}

/// Room for something that outlives its request, such as an answer on its way; given back on drop.
pub(super) struct OwnedPlace {
    room: Arc<Room>,
    /// Number of the share.
    place: usize,
    units: usize,
}

impl OwnedPlace {
    /// Gives back what is not needed for `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let kept = (bytes / UNIT + 1).min(self.units);
        self.room.give_back(self.place, self.units - kept);
        self.units = kept;
    }
}

impl Drop for OwnedPlace {
    fn drop(&mut self) {
        self.room.give_back(self.place, self.units);
    }
}

/// Room for one body, given back on drop.
pub struct RoomPlace<'a> {
    _share: Option<SemaphorePermit<'a>>,
    _free: Option<SemaphorePermit<'a>>,
}

impl Room {
    /// `bytes` for all bodies together.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(SHARE, Semaphore::MAX_PERMITS);
        let share = units / SHARE;
        let shares = (0..2 * HALF).map(|_| Semaphore::new(share)).collect();
        Self { free: Semaphore::new(units), shares, hasher: RandomState::new(), share }
    }

    /// Room for a body of `key` of at most `bytes`; at most a whole share, however large it is. Waits, first for the key's own
    /// others.
    pub async fn take(&self, key: &Key, bytes: usize) -> RoomPlace<'_> {
        let units = u32::try_from((bytes / UNIT + 1).min(self.share)).unwrap_or(u32::MAX);
        // Nobody closes them; without a permit it is as right.
        let share = self.shares[self.freer(key)].acquire_many(units).await.ok();
        RoomPlace { _share: share, _free: self.free.acquire_many(units).await.ok() }
    }

    /// The same for what outlives its request.
    pub(super) async fn take_owned(self: Arc<Self>, key: &Key, bytes: usize) -> OwnedPlace {
        let units = u32::try_from((bytes / UNIT + 1).min(self.share)).unwrap_or(u32::MAX);
        let place = self.freer(key);
        let mut taken = 0;
        if let Ok(share) = self.shares[place].acquire_many(units).await
            && let Ok(free) = self.free.acquire_many(units).await
        {
            // Given back by whoever owns the place.
            share.forget();
            free.forget();
            taken = units as usize;
        }
        OwnedPlace { room: self, place, units: taken }
    }

    /// What is free, in KiB.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.free.available_permits()
    }

    fn give_back(&self, place: usize, units: usize) {
        self.free.add_permits(units);
        self.shares[place].add_permits(units);
    }

    /// Of the two places of `key` the one with more room left.
    fn freer(&self, key: &Key) -> usize {
        let hash = self.hasher.hash_one(key) as usize;
        let (one, other) = (hash % HALF, HALF + hash / HALF % HALF);
        let left = |place: usize| self.shares[place].available_permits();
        if left(one) < left(other) { other } else { one }
    }
}

/// The rooms of the publish routes. Made once for a router.
pub(super) struct Rooms {
    batches: Room,
    singles: Room,
    limits: Limits,
}

impl Rooms {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { batches: Room::new(BATCH_BYTES), singles: Room::new(SINGLE_BYTES), limits })
    }

    /// Where a request's body goes, and what it may take there: its length where it tells one, else the most that its kind is
    /// allowed.
    fn room_of(&self, request: &Request) -> (&Room, usize) {
        let (room, most) = if body::has_media_type(request.headers(), batch::NDJSON) {
            (&self.batches, body::MAX_BATCH_BYTES)
        } else {
            (&self.singles, body::max_json(&self.limits))
        };
        let told = request.body().size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
        (room, told.unwrap_or(most).min(most))
    }
}

/// Middleware: takes room for the body, until the answer is there. Whoever may publish nothing at all gets none.
pub(super) async fn wait_for_room(State(rooms): State<Arc<Rooms>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let access = request.extensions().get::<Access>();
    if request.method() == Method::POST && access.is_some_and(|access| !access.may_publish_any()) {
        return Problem::not_granted("channel").detail(AuthError::NotGranted.to_string()).into_response();
    }
    let key = Key::of(request.extensions());
    let (room, bytes) = rooms.room_of(&request);
    let _place = room.take(&key, bytes).await;
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::FutureExt as _;
    use http::header::CONTENT_TYPE;

    use super::*;

    fn bytes(media_type: &str, body: Body) -> (bool, usize) {
        let request = Request::builder().header(CONTENT_TYPE, media_type).body(body).unwrap();
        let rooms = Rooms::new(Limits::default());
        let (room, bytes) = rooms.room_of(&request);
        (std::ptr::eq(room, &raw const rooms.batches), bytes)
    }

    fn endless() -> Body {
        Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>())
    }

    #[test]
    fn a_length_that_is_told_counts_else_the_most_of_its_kind() {
        assert_eq!(bytes("application/json", Body::from(vec![0; 5_000])), (false, 5_000));
        assert_eq!(bytes("application/json", endless()), (false, 589_824));
        assert_eq!(bytes("application/json", Body::from(vec![0; 1 << 20])), (false, 589_824), "it is not read further");
        assert_eq!(bytes("application/x-ndjson", endless()), (true, 16 << 20));
    }

    #[test]
    fn nobody_has_more_than_a_quarter_and_holds_up_others() {
        let room = Room::new(64 << 10);
        let (greedy, other) = (Key::Subject("greedy".to_owned()), Key::Subject("other".to_owned()));
        let take = |key, bytes| room.take(key, bytes).now_or_never();
        let held: Vec<_> = (0..100).map_while(|_| take(&greedy, 4_000)).collect();
        assert_eq!(held.len(), 4, "of 64 units a quarter, at 4 each");
        assert!(take(&greedy, 1).is_none() && take(&other, 4_000).is_some());
        drop(held);
        assert!(take(&greedy, 1 << 30).is_some(), "even the largest finds room some day");
    }

    #[tokio::test]
    async fn what_outlives_its_request_keeps_what_it_needs() {
        let room = Arc::new(Room::new(64 << 10));
        let key = Key::Operator;
        let mut one = room.clone().take_owned(&key, 1 << 20).await;
        let other = room.clone().take_owned(&key, 1 << 20).await;
        assert!(room.take(&key, 1).now_or_never().is_none(), "both halves of the quarter are taken");
        assert_eq!(room.free.available_permits(), 48);
        one.shrink(1_500);
        assert_eq!(room.free.available_permits(), 54);
        assert!(room.take(&key, 1).now_or_never().is_some());
        drop((one, other));
        assert_eq!((room.free.available_permits(), room.shares.iter().all(|s| s.available_permits() == 8)), (64, true));
    }

    #[tokio::test]
    async fn what_is_given_up_in_the_midst_of_waiting_takes_nothing() {
        let room = Room::new(64 << 10);
        let key = Key::Operator;
        let all = [room.take(&key, 1 << 20).await, room.take(&key, 1 << 20).now_or_never().unwrap()];
        assert!(room.take(&key, 1).now_or_never().is_none());
        drop(all);
        assert_eq!((room.free.available_permits(), room.shares.iter().all(|s| s.available_permits() == 8)), (64, true));
    }
}
