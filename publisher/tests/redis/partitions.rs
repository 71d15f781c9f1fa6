//! Several partitions on a single server: names say them, and messages go by sharded Pub/Sub. All else is as with one.

use publisher::{Channels as _, Once, Publisher};
use shared::position::Position;
use shared::redis::Settings;
use testkit::{RedisServer, soon};

use crate::support::*;

#[tokio::test]
async fn all_of_them_are_on_the_one_server() {
    let server = RedisServer::start().await;
    let settings = Settings { partitions: 16, ..Settings::new(&server.url()) };
    let publisher = Publisher::connect(&settings).await.unwrap();
    let keys = publisher.keys().clone();
    let names: Vec<_> = (0..40).map(|number| channel(&format!("c:{number}"))).collect();
    let in_redis: Vec<String> = names.iter().map(|name| keys.channel(name)).collect();
    let mut listener = Listener::sharded(&server, &in_redis.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let event = |number: usize| match number % 2 {
        0 => numbered(number).once(Once::parse("k").unwrap()),
        _ => numbered(number).ephemeral(),
    };
    let batch = names.iter().enumerate().map(|(number, name)| (name.clone(), event(number))).collect();
    let outcomes = publisher.publish_batch(batch).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().receivers == 1), "{outcomes:?}");
    // One list on one connection, whatever the partition.
    let heard = listener.all(&server, &in_redis[0]).await;
    assert_eq!(heard, (0..40).map(payload).collect::<Vec<_>>());
    for (number, name) in names.iter().enumerate() {
        let expected = if number % 2 == 0 { vec![payload(number)] } else { Vec::new() };
        assert_eq!(payloads(&server, &in_redis[number]).await, expected);
        assert_eq!(publisher.history(name, Position::ZERO, 9).await.unwrap().entries.len(), expected.len());
    }
    let (waits, other) = (publisher.cancelled(&names[1]), publisher.cancelled(&names[2]));
    let mut other = Box::pin(other);
    publisher.cancel(&names[1]).await.unwrap();
    soon("its cancellation", waits).await;
    assert!(futures_util::poll!(&mut other).is_pending());
    publisher.check().await.unwrap();
}
