//! Memory for answers: taken before the broker is asked, kept until the last byte is written.

use std::sync::Mutex;
use std::task::Poll;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::poll;
use http_body_util::BodyExt;
use shared::channel::Channel;

use super::*;
use crate::PublishError;

/// Always the same entry, and how much room was left each time it was asked.
struct Fake {
    payload: Bytes,
    room: Mutex<Option<Arc<Semaphore>>>,
    left: Mutex<Vec<usize>>,
}

impl Channels for Fake {
    fn history<'a>(
        &'a self,
        _: &'a Channel,
        _: Position,
        _: usize,
    ) -> BoxFuture<'a, Result<HistoryPage, PublishError>> {
        let left = self.room.lock().unwrap().as_ref().map_or(0, |room| room.available_permits());
        self.left.lock().unwrap().push(left);
        let position = Position { ms: 1, seq: 0 };
        let entry = HistoryEntry { position, previous: Position::ZERO, payload: self.payload.clone() };
        let tag = "abcde".parse().unwrap();
        let page = HistoryPage { clock: position, time_ms: 1, tag, last: None, entries: vec![entry], more: false };
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
    read(State(reader.clone()), Extension(Access::Open), Ok(Path("a".to_owned())), Uri::from_static("/")).await.unwrap()
}

#[tokio::test]
async fn an_answer_keeps_its_share_until_nobody_holds_any_of_it() {
    let all = ROOM_BYTES / UNIT;
    let (fake, reader) = reader(vec![b'x'; 100 * UNIT]);
    let mut response = get(&reader).await;
    assert_eq!(*fake.left.lock().unwrap(), [all - READ_BYTES / UNIT - 1]);
    assert_eq!(reader.room.available_permits(), all - 101, "the rest was given back");
    let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    let end = frame.slice(frame.len() - 1..);
    drop((response, frame));
    assert_eq!(reader.room.available_permits(), all - 101, "its last byte is not written yet");
    drop(end);
    assert_eq!(reader.room.available_permits(), all);
}

#[tokio::test]
async fn who_finds_no_room_waits() {
    let (fake, reader) = reader(b"x".to_vec());
    let taken = reader.room.clone().acquire_many_owned(units(ROOM_BYTES - 1)).await.unwrap();
    let mut waiting = Box::pin(get(&reader));
    assert!(matches!(poll!(&mut waiting), Poll::Pending));
    assert!(fake.left.lock().unwrap().is_empty(), "the broker is not asked yet");
    drop(taken);
    assert_eq!(waiting.await.status(), 200);
}

#[tokio::test]
async fn an_answer_larger_than_foreseen_keeps_all_that_it_took() {
    // A byte that is no UTF-8 becomes three.
    let (_, reader) = reader(vec![0xFF; READ_BYTES]);
    let response = get(&reader).await;
    assert_eq!(reader.room.available_permits(), ROOM_BYTES / UNIT - READ_BYTES / UNIT - 1);
    drop(response);
    assert_eq!(reader.room.available_permits(), ROOM_BYTES / UNIT);
}
