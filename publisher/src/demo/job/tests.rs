//! What a job says, exactly and when; how it ends early; what it does while the broker is away. The clock is paused.

use tokio::task::JoinSet;

use super::super::fake::Fake;
use super::*;
use crate::Cancel as _;

const TEXT: &str = "one two\nthree\n";

fn start(fake: &Arc<Fake>, text: &'static str) -> (JoinSet<()>, CancellationToken) {
    let (channel, stop) = (Channel::parse("job:1").unwrap(), CancellationToken::new());
    let cancelled = fake.cancelled(&channel);
    let body = Bytes::from_static(text.as_bytes());
    let job = Job { publish: fake.clone(), channel, name: "a \"b\".txt".to_owned(), body, stop: stop.clone() };
    let mut running = JoinSet::new();
    running.spawn(async move {
        job.begin().await.unwrap();
        job.run(cancelled).await;
    });
    (running, stop)
}

async fn at_step(fake: &Fake, step: usize) {
    while fake.told().len() <= step {
        sleep(Duration::from_millis(1)).await;
    }
}

fn progress(step: usize, total: usize) -> String {
    format!(
        r#"{{"event":"progress","data":{{"done":{},"total":{total},"percent":{},"step":"counting"}}}}"#,
        total * step / 80,
        100 * step / 80
    )
}

#[tokio::test(start_paused = true)]
async fn every_event_in_its_order_at_its_time() {
    let (fake, began) = (Fake::new(), Instant::now());
    let (running, _stop) = start(&fake, TEXT);
    running.join_all().await;
    let told = fake.told();
    let mut expected = vec![r#"{"event":"started","data":{"name":"a \"b\".txt","bytes":14}}"#.to_owned()];
    expected.extend((1..=80).map(|step| progress(step, 14)));
    expected.push(
        r#"{"event":"done","data":{"name":"a \"b\".txt","bytes":14,"lines":2,"words":3,"sha256":"#.to_owned()
            + r#""6481b98de00b3b8c0eccd56b3877aa72d7cbb9c2b97142fa35f7177f9456926d"},"end":true}"#,
    );
    let payloads: Vec<_> = told.iter().map(|told| told.payload.clone()).collect();
    assert_eq!(payloads, expected);
    let times: Vec<_> = told.iter().map(|told| (told.at - began).as_millis()).collect();
    let mut due: Vec<_> = (0..=80).map(|step| step * 100).collect();
    due.push(8_000);
    assert_eq!(times, due);
    let mut keys: Vec<_> = told.into_iter().map(|told| told.once.unwrap()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 82, "each has a key of its own");
}

#[tokio::test(start_paused = true)]
async fn a_large_text_is_counted_in_slices() {
    let text: &'static str = "five words stand here, no more\n".repeat(10_000).leak();
    let fake = Fake::new();
    start(&fake, text).0.join_all().await;
    let payloads = fake.payloads("job:1");
    assert_eq!(payloads[1], progress(1, 310_000));
    assert_eq!(payloads[80], progress(80, 310_000));
    assert!(payloads[81].contains(r#""bytes":310000,"lines":10000,"words":60000,"#), "{}", payloads[81]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_says_so_and_nothing_more() {
    let fake = Fake::new();
    let (running, _stop) = start(&fake, TEXT);
    at_step(&fake, 3).await;
    fake.cancel(&Channel::parse("job:1").unwrap()).await.unwrap();
    running.join_all().await;
    let payloads = fake.payloads("job:1");
    assert_eq!(payloads.len(), 5);
    assert_eq!(payloads[3..], [progress(3, 14), r#"{"event":"cancelled","data":{},"end":true}"#.to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_says_so() {
    let fake = Fake::new();
    let (running, stop) = start(&fake, TEXT);
    at_step(&fake, 1).await;
    stop.cancel();
    running.join_all().await;
    let last = fake.payloads("job:1").pop();
    assert_eq!(last.as_deref(), Some(r#"{"event":"failed","data":{"detail":"stopped"},"end":true}"#));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_and_nothing_is_left_out_or_said_twice() {
    let fake = Fake::new();
    let (running, _stop) = start(&fake, TEXT);
    at_step(&fake, 2).await;
    fake.set_error(Some(Fake::away()));
    sleep(Duration::from_secs(55)).await;
    assert!(fake.tries() < 70, "it tries once a second, not {} times", fake.tries());
    fake.set_error(None);
    running.join_all().await;
    let payloads = fake.payloads("job:1");
    assert_eq!(payloads.len(), 82);
    assert_eq!(payloads[1..81], (1..=80).map(|step| progress(step, 14)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_lasts_ends_the_job() {
    let fake = Fake::new();
    let (running, _stop) = start(&fake, TEXT);
    at_step(&fake, 1).await;
    fake.set_error(Some(Fake::away()));
    sleep(PATIENCE + Duration::from_secs(5)).await;
    fake.set_error(None);
    running.join_all().await;
    let last = fake.payloads("job:1").pop().unwrap();
    assert_eq!(last, r#"{"event":"failed","data":{"detail":"the broker is not available: no connection"},"end":true}"#);

    let fake = Fake::new();
    let (running, _stop) = start(&fake, TEXT);
    at_step(&fake, 1).await;
    fake.set_error(Some(Fake::away()));
    let began = Instant::now();
    running.join_all().await;
    assert!(began.elapsed() <= 2 * PATIENCE, "it ends whatever happens");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_not_repeated() {
    let fake = Fake::new();
    let (running, _stop) = start(&fake, TEXT);
    at_step(&fake, 1).await;
    let tries = fake.tries();
    fake.set_error(Some(PublishError::Rejected { reason: "WRONGTYPE".to_owned() }));
    running.join_all().await;
    assert_eq!(fake.tries(), tries + 2, "a progress, and the end");
}
