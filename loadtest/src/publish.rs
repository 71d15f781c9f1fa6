//! The publisher side: sends each channel's events in order, at their times, through the HTTP route, and keeps what was
//! acknowledged. It must not know who listens.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::counters::{add, unix_ns};
use crate::endpoint::{self, Endpoint};
use crate::reasons::{Reasons, describe};
use crate::verify::{Marker, Published};

/// Most HTTP connections to publish through. A channel keeps to one of them, with one request at a time on it: otherwise
/// the server might take two events of a channel in either order, and rightly so.
pub(crate) const MAX_LANES: usize = 32;
/// How long one publish may take.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failure, so that a dead server is not asked as fast as it refuses.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// How much longer than planned may be taken to send what is due: a late timer is no server that cannot keep up.
const OVERRUN: Duration = Duration::from_millis(200);
/// Bound of a receipt, in bytes.
const RECEIPT_LIMIT: usize = 64 * 1024;

/// What to publish.
#[derive(Debug)]
pub(crate) struct PublishPlan {
    /// Where.
    pub(crate) endpoint: Endpoint,
    /// Names of the channels; the index is the key that their events carry.
    pub(crate) channels: Vec<String>,
    /// Events per second per channel.
    pub(crate) rate: f64,
    /// Bytes of data in each event.
    pub(crate) size: usize,
    /// How long.
    pub(crate) duration: Duration,
}

impl PublishPlan {
    /// Events that are due on one channel once `elapsed` of the time has passed.
    fn due_per_channel(&self, elapsed: Duration) -> u64 {
        (self.rate * elapsed.min(self.duration).as_secs_f64()).floor() as u64
    }

    /// Events that are due on all channels once `elapsed` of the time has passed; an estimate within one event a channel,
    /// since channels take turns.
    pub(crate) fn due(&self, elapsed: Duration) -> u64 {
        self.due_per_channel(elapsed) * self.channels.len() as u64
    }
}

/// Counted while publishing.
#[derive(Debug, Default)]
pub(crate) struct PublishCounters {
    /// Publishes acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Publishes that failed.
    pub(crate) errors: AtomicU64,
}

/// What was published.
#[derive(Debug, Default)]
pub(crate) struct PublishAccount {
    /// An entry a channel, in the plan's order.
    pub(crate) channels: Vec<Published>,
    /// Events that were due, on all channels, until the plan was over or stopped.
    pub(crate) due: u64,
    /// Why publishes failed, with how many did.
    pub(crate) reasons: Reasons,
}

impl PublishAccount {
    /// Of `channels` channels on which nothing was published.
    pub(crate) fn nothing(channels: usize) -> Self {
        Self { channels: vec![Published::default(); channels], ..Self::default() }
    }
}

/// Publishes until the plan's duration is over or `stop` is cancelled; a publish under way is finished first. Runs on the
/// caller's runtime.
pub(crate) async fn publish(
    plan: Arc<PublishPlan>,
    counters: Arc<PublishCounters>,
    stop: CancellationToken,
) -> PublishAccount {
    let lanes = plan.channels.len().min(MAX_LANES);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..lanes {
        let lane = Lane::new(Arc::clone(&plan), Arc::clone(&counters), number, lanes);
        tasks.spawn(lane.run(start, stop.clone()));
    }
    let mut account = PublishAccount::nothing(plan.channels.len());
    while let Some(lane) = tasks.join_next().await {
        let lane = match lane {
            Ok(lane) => lane,
            Err(error) => {
                account.reasons.add(error.to_string(), 1);
                continue;
            }
        };
        for (key, published) in lane.keys.into_iter().zip(lane.published) {
            account.channels[key] = published;
        }
        account.reasons.merge(lane.reasons);
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep_until(start + plan.duration) => {}
    }
    account.due = plan.due(start.elapsed());
    account
}

/// Some of the channels, over one HTTP connection.
struct Lane {
    plan: Arc<PublishPlan>,
    counters: Arc<PublishCounters>,
    keys: Vec<usize>,
    /// Alongside `keys`.
    published: Vec<Published>,
    client: Option<Client>,
    reasons: Reasons,
    /// Share of the time between two events of one channel by which this lane lags behind the first, so that lanes do not
    /// all send at once.
    phase: f64,
}

impl Lane {
    fn new(plan: Arc<PublishPlan>, counters: Arc<PublishCounters>, number: usize, lanes: usize) -> Self {
        let keys: Vec<usize> = (number..plan.channels.len()).step_by(lanes).collect();
        let published = vec![Published::default(); keys.len()];
        let phase = number as f64 / (lanes * keys.len()) as f64;
        Self { plan, counters, keys, published, client: None, reasons: Reasons::default(), phase }
    }

    async fn run(mut self, start: Instant, stop: CancellationToken) -> Self {
        let turns = self.keys.len();
        let limit = start + self.plan.duration + OVERRUN;
        let total = self.plan.due_per_channel(self.plan.duration);
        for round in 0..total {
            for turn in 0..turns {
                let events = round as f64 + turn as f64 / turns as f64 + self.phase;
                let due = start + Duration::from_secs_f64(events / self.plan.rate);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return self,
                    () = sleep_until(due) => {}
                }
                if Instant::now() >= limit {
                    // The server did not keep up; the rest is reported as not sent.
                    return self;
                }
                self.publish_next(turn).await;
            }
        }
        self
    }

    /// Publishes the next event of the lane's channel number `turn`.
    async fn publish_next(&mut self, turn: usize) {
        let sequence = self.published[turn].attempted;
        self.published[turn].attempted += 1;
        let sending = timeout(PUBLISH_TIMEOUT, self.send(self.keys[turn], sequence)).await;
        let Err(reason) = sending.unwrap_or_else(|_| Err(format!("no answer within {PUBLISH_TIMEOUT:?}"))) else {
            add(&self.counters.acknowledged, 1);
            return;
        };
        self.published[turn].unsure.push(sequence);
        add(&self.counters.errors, 1);
        self.reasons.add(format!("publish: {reason}"), 1);
        // After a failure nobody knows what the connection still carries.
        self.client = None;
        tokio::time::sleep(FAILURE_PAUSE).await;
    }

    async fn send(&mut self, key: usize, sequence: u64) -> Result<(), String> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.plan.endpoint).await?,
        };
        let path = format!("/channels/{}/events", self.plan.channels[key]);
        // The time is taken last: connecting again is no part of the latency.
        let data = data(
            Marker { sequence, sent_at_ns: unix_ns(), key: u32::try_from(key).unwrap_or(u32::MAX) },
            self.plan.size,
        );
        client.post(&self.plan.endpoint.authority, &path, data).await?;
        self.client = Some(client);
        Ok(())
    }
}

/// A marker, padded to `size` bytes.
fn data(marker: Marker, size: usize) -> String {
    let mut data = String::with_capacity(size);
    marker.write(&mut data);
    data.extend(std::iter::repeat_n('x', size.saturating_sub(data.len())));
    data
}

/// One HTTP connection that publishes, with the task that drives it.
struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Client {
    async fn connect(endpoint: &Endpoint) -> Result<Self, String> {
        let socket = endpoint::connect(endpoint.address, None).await.map_err(|error| format!("connect: {error}"))?;
        socket.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
        let handshake = http1::handshake(TokioIo::new(socket)).await;
        let (sender, connection) = handshake.map_err(|error| format!("handshake: {}", describe(&error)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The request that this connection fails tells the error.
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: driver })
    }

    /// Posts an event and reads its receipt.
    async fn post(&mut self, authority: &str, path: &str, data: String) -> Result<(), String> {
        let request = Request::post(path)
            .header(http::header::HOST, authority)
            .header(http::header::CONTENT_TYPE, "text/plain")
            .body(Full::new(Bytes::from(data)))
            .map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| describe(&error))?;
        let response = self.sender.send_request(request).await.map_err(|error| describe(&error))?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), RECEIPT_LIMIT).collect().await.map_err(|error| error.to_string())?;
        if status != StatusCode::OK {
            return Err(format!("status {}", status.as_u16()));
        }
        check_receipt(&body.to_bytes())
    }
}

/// A receipt is `{"id": ..., "receivers": ...}`.
fn check_receipt(body: &[u8]) -> Result<(), String> {
    let receipt: serde_json::Value = serde_json::from_slice(body).map_err(|_| "the receipt is not JSON".to_owned())?;
    if receipt.get("id").is_none() || receipt.get("receivers").is_none() {
        return Err("the receipt lacks id or receivers".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(channels: usize, rate: f64, seconds: u64) -> PublishPlan {
        PublishPlan {
            endpoint: Endpoint { address: "127.0.0.1:1".parse().unwrap(), authority: "x".to_owned() },
            channels: (0..channels).map(|i| format!("c-{i}")).collect(),
            rate,
            size: 64,
            duration: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn what_is_due_grows_with_time_and_ends_with_the_plan() {
        let plan = plan(3, 2.5, 4);
        let due = [0, 1_000, 3_999, 4_000, 9_000].map(|ms| plan.due(Duration::from_millis(ms)));
        assert_eq!(due, [0, 6, 27, 30, 30]);
    }

    #[test]
    fn every_channel_is_in_exactly_one_lane() {
        let plan = Arc::new(plan(100, 1.0, 1));
        let lanes =
            |n| (0..n).flat_map(|i| Lane::new(Arc::clone(&plan), Arc::default(), i, n).keys).collect::<Vec<_>>();
        for n in [1, 32, 100] {
            let mut keys = lanes(n);
            keys.sort_unstable();
            assert_eq!(keys, (0..100).collect::<Vec<_>>(), "{n} lanes");
        }
    }

    #[test]
    fn data_has_its_size_and_its_marker_even_when_the_numbers_are_long() {
        let marker = Marker { sequence: u64::MAX - 1, sent_at_ns: u64::MAX, key: u32::MAX };
        for size in [64, 65, 65_536] {
            let data = data(marker, size);
            assert_eq!((data.len(), Marker::parse(&data)), (size, Some(marker)));
        }
    }

    #[test]
    fn a_receipt_must_be_one() {
        assert!(check_receipt(br#"{"id":null,"receivers":0}"#).is_ok());
        for (body, reason) in
            [(&b""[..], "not JSON"), (b"ok", "not JSON"), (b"{}", "lacks"), (br#"{"id":"x"}"#, "lacks")]
        {
            assert!(check_receipt(body).unwrap_err().contains(reason));
        }
    }

    #[tokio::test]
    async fn a_dead_server_makes_every_publish_unsure_and_the_end_is_on_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut plan = plan(2, 20.0, 1);
        plan.endpoint.address = address;
        let began = Instant::now();
        let counters = Arc::new(PublishCounters::default());
        let account = publish(Arc::new(plan), Arc::clone(&counters), CancellationToken::new()).await;
        assert!(began.elapsed() < Duration::from_secs(5));
        for channel in &account.channels {
            assert!(channel.attempted > 1);
            assert_eq!(channel.acknowledged(), 0);
        }
        assert!(
            account.reasons.iter().all(|(reason, _)| reason.starts_with("publish: connect: ")),
            "{:?}",
            account.reasons
        );
    }
}
