//! Memory for answers: taken before the broker is asked, kept until the last byte is written.

use std::sync::Mutex;
use std::task::Poll;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::poll;
use http_body_util::BodyExt;
use shared::channel::Channel;
use shared::net::Proxies;

use super::*;
use crate::PublishError;

/// Always the same entry, and how much room was left each time it was asked.
struct Fake {
    payload: Bytes,
    room: Mutex<Option<Arc<Room>>>,
    left: Mutex<Vec<usize>>,
}

impl Channels for Fake {
    fn history<'a>(
        &'a self,
        _: &'a Channel,
        _: Position,
        _: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>> {
        let left = self.room.lock().unwrap().as_ref().map_or(0, |room| room.left());
        self.left.lock().unwrap().push(left);
        let position = Position { ms: 1, seq: 0 };
        let entry = HistoryEntry { position, previous: Position::ZERO, payload: self.payload.clone() };
        let tag = "abcde".parse().unwrap();
        let page = HistoryPage {
            clock: position,
            time_ms: 1,
            tag,
            partition: None,
            last: None,
            entries: vec![entry],
            more: false,
        };
        std::future::ready(Ok(page)).boxed()
    }

    fn erase<'a>(&'a self, _: &'a Channel) -> BoxFuture<'a, Result<bool, PublishError>> {
        unreachable!("nothing is erased here")
    }
}

fn reader(payload: Vec<u8>) -> (Arc<Fake>, Arc<Reader>) {
    let fake = Arc::new(Fake { payload: payload.into(), room: Mutex::default(), left: Mutex::default() });
    let reader = Arc::new(Reader::new(Arc::clone(&fake) as Arc<dyn Channels>));
    *fake.room.lock().unwrap() = Some(reader.room.clone());
    (fake, reader)
}

async fn get(reader: &Arc<Reader>) -> Response {
    get_as(reader, "192.0.2.1").await
}

/// By a client of this address.
async fn get_as(reader: &Arc<Reader>, address: &str) -> Response {
    let mut extensions = Extensions::new();
    extensions.insert(Proxies::default().client(address.parse().unwrap(), &http::HeaderMap::new()));
    let path = Ok(Path("a".to_owned()));
    read(State(reader.clone()), Extension(Access::Open), path, Uri::from_static("/"), extensions).await.unwrap()
}

#[tokio::test]
async fn an_answer_keeps_its_share_until_nobody_holds_any_of_it() {
    let all = ROOM_BYTES >> 10;
    let (fake, reader) = reader(vec![b'x'; 100 << 10]);
    let mut response = get(&reader).await;
    assert_eq!(*fake.left.lock().unwrap(), [all - (READ_BYTES >> 10) - 1]);
    assert_eq!(reader.room.left(), all - 101, "the rest was given back");
    let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    let end = frame.slice(frame.len() - 1..);
    drop((response, frame));
    assert_eq!(reader.room.left(), all - 101, "its last byte is not written yet");
    drop(end);
    assert_eq!(reader.room.left(), all);
}

/// Whoever reads nothing of many answers waits for their own, and nobody else does.
#[tokio::test]
async fn who_finds_no_room_waits() {
    let (fake, reader) = reader(vec![b'x'; 4 << 20]);
    let mut taken = Vec::new();
    let mut waiting = loop {
        let mut next = Box::pin(get(&reader));
        match poll!(&mut next) {
            Poll::Ready(response) => taken.push(response),
            Poll::Pending => break next,
        }
        assert!(taken.len() < 100, "one has all of it");
    };
    assert!(reader.room.left() >= (ROOM_BYTES >> 10) / 4 * 3, "{}", reader.room.left());
    let asked = fake.left.lock().unwrap().len();
    assert_eq!(asked, taken.len(), "the broker is not asked yet");
    assert_eq!(get_as(&reader, "192.0.2.2").await.status(), 200);
    taken.clear();
    assert_eq!(waiting.as_mut().await.status(), 200);
}

#[tokio::test]
async fn an_answer_larger_than_foreseen_keeps_all_that_it_took() {
    // A byte that is no UTF-8 becomes three.
    let (_, reader) = reader(vec![0xFF; READ_BYTES]);
    let response = get(&reader).await;
    assert_eq!(reader.room.left(), (ROOM_BYTES >> 10) - (READ_BYTES >> 10) - 1);
    drop(response);
    assert_eq!(reader.room.left(), (ROOM_BYTES >> 10));
}
