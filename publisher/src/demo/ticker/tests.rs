//! How often what is told, to whom, and with which numbers. The clock is paused.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::fake::{Fake, Told};
use super::*;

fn start(fake: &Arc<Fake>) -> (JoinSet<()>, CancellationToken) {
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    running.spawn(ticker(fake.clone(), fake.clone(), stop.clone()));
    (running, stop)
}

/// How often each channel was told something in `told`.
fn counts(told: &[Told]) -> [usize; 3] {
    NAMES.map(|(channel, _)| told.iter().filter(|told| told.channel == channel).count())
}

/// The numbers of one channel's events, in their order.
fn numbers(fake: &Fake, channel: &str) -> Vec<u64> {
    fake.payloads(channel).iter().map(|payload| number(payload.as_bytes()).unwrap()).collect()
}

/// Half a tick beyond, so that what is due at the end of it is there.
async fn pass(time: Duration) {
    sleep(time + BUSY / 2).await;
}

#[tokio::test(start_paused = true)]
async fn twenty_a_second_for_somebody_and_one_each_for_nobody() {
    let fake = Fake::new();
    let (running, stop) = start(&fake);
    pass(Duration::from_secs(10)).await;
    assert_eq!(counts(&fake.told()), [10, 10, 10]);

    fake.set_receivers(1);
    // The next slow tick finds out.
    sleep(IDLE).await;
    let before = fake.told().len();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(counts(&fake.told()[before..]), [120, 50, 30]);

    fake.set_receivers(0);
    // Orders, the rarest, tell of it within a second.
    sleep(Duration::from_secs(2)).await;
    let before = fake.told().len();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(counts(&fake.told()[before..]), [10, 10, 10]);

    stop.cancel();
    running.join_all().await;
    for (channel, _) in NAMES {
        let numbers = numbers(&fake, channel);
        assert!(numbers.iter().copied().eq(1..=u64::try_from(numbers.len()).unwrap()), "{numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn payloads_are_those_of_the_contract() {
    let fake = Fake::new();
    let (_running, _stop) = start(&fake);
    pass(IDLE).await;
    let start = |channel: &str| fake.payloads(channel)[0].clone();
    assert!(start("demo:prices").starts_with(r#"{"event":"price","data":{"n":1,"symbol":"KRX:000660","#));
    assert!(start("demo:metrics").starts_with(r#"{"event":"metric","data":{"n":1,"name":"memory","value":"#));
    assert!(start("demo:orders").starts_with(r#"{"event":"order","data":{"n":1,"id":"A-10001","side":""#));
}

#[tokio::test(start_paused = true)]
async fn numbers_go_on_after_a_restart() {
    let fake = Fake::new();
    let (running, stop) = start(&fake);
    pass(3 * IDLE).await;
    stop.cancel();
    running.join_all().await;
    // What else is on the channel is no number.
    let other = Publication::new(&b"not an envelope"[..]);
    fake.publish(&Channel::parse("demo:orders").unwrap(), other).await.unwrap();

    let (_running, _stop) = start(&fake);
    pass(2 * IDLE).await;
    assert_eq!(numbers(&fake, "demo:prices"), [1, 2, 3, 4, 5]);
    assert_eq!(number(fake.payloads("demo:orders").pop().unwrap().as_bytes()), Some(2), "from the beginning");
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_no_number_out() {
    let fake = Fake::new();
    fake.set_receivers(2);
    fake.set_error(Some(Fake::away()));
    let (_running, _stop) = start(&fake);
    sleep(Duration::from_secs(60)).await;
    fake.set_error(None);
    sleep(Duration::from_secs(10)).await;
    assert!(fake.told().len() > 50);
    let began = Instant::now();
    fake.set_error(Some(Fake::away()));
    let tries = fake.tries();
    sleep(Duration::from_secs(60)).await;
    assert!(fake.tries() - tries < 20, "it backs off: {} tries", fake.tries() - tries);
    fake.set_error(Some(PublishError::Rejected { reason: "WRONGTYPE".to_owned() }));
    sleep(Duration::from_secs(10)).await;
    fake.set_error(None);
    sleep(Duration::from_secs(20)).await;
    let told = fake.told();
    let after: Vec<_> = told.iter().filter(|told| told.at > began + Duration::from_secs(80)).collect();
    assert!((190..=201).contains(&after.len()), "what was missed is not made up for: {}", after.len());
    for (channel, _) in NAMES {
        let numbers = numbers(&fake, channel);
        assert!(numbers.iter().copied().eq(1..=u64::try_from(numbers.len()).unwrap()), "{numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_it_is_told_to_also_while_the_broker_is_away() {
    let fake = Fake::new();
    fake.set_error(Some(Fake::away()));
    let (running, stop) = start(&fake);
    sleep(Duration::from_secs(30)).await;
    stop.cancel();
    running.join_all().await;
    assert_eq!(fake.told().len(), 0);
}

#[test]
fn the_position_right_before() {
    let position = |ms, seq| Position { ms, seq };
    assert_eq!(before(position(7, 3)), position(7, 2));
    assert_eq!(before(position(7, 0)), position(6, u64::MAX));
    assert_eq!(before(Position::ZERO), position(0, u64::MAX));
}

#[test]
fn a_second_has_its_share_of_each() {
    let count = |place| SECOND.iter().filter(|other| **other == place).count();
    assert_eq!([PRICES, METRICS, ORDERS].map(count), [12, 5, 3]);
}
