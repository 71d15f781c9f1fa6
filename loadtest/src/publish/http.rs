//! Publishes by POST over some keep-alive connections, one request at a time on each, so that the server takes the events of a
//! channel in their order.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::schedule::{Due, Schedule};
use super::{ANSWER_TIMEOUT, Account, Course, FAILURE_PAUSE, OVERRUN, Publisher, add};
use crate::clock::unix_ns;
use crate::endpoint;
use crate::reasons::describe;
use crate::target::UrlTemplate;
use crate::verify::{Marker, Published};

/// Most HTTP connections, and so requests under way. A channel keeps to one of them.
const MAX_LANES: u32 = 32;
/// Events that are due and wait for their connection; once these are full, all wait, and are late.
const QUEUE: usize = 256;
/// Bound of an answer, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Publishes to the end of the schedule, or until it is stopped.
pub(super) async fn run(
    publisher: &Publisher,
    url: &UrlTemplate,
    content_type: &str,
    mut schedule: Schedule,
    course: Course,
) -> Account {
    let lanes = publisher.keys.clamp(1, MAX_LANES);
    let limit = schedule.end().map(|end| course.start + end + OVERRUN);
    let (mut queues, mut tasks) = (Vec::new(), JoinSet::new());
    for number in 0..lanes {
        let (queue, due) = mpsc::channel(QUEUE);
        queues.push(queue);
        let lane = Lane {
            publisher: publisher.clone(),
            url: url.clone(),
            content_type: content_type.to_owned(),
            course: course.clone(),
            limit,
            number,
            lanes,
            client: None,
            account: Account::nothing(publisher.keys.saturating_sub(number).div_ceil(lanes)),
            first: None,
            last: None,
        };
        tasks.spawn(lane.run(due));
    }
    let hand_out = async {
        while let Some(next) = schedule.next_at(course.start.elapsed()) {
            sleep_until(course.start + next).await;
            while let Some(due) = schedule.take(course.start.elapsed()) {
                // A lane takes what is due until its queue is closed.
                let _ = queues[(due.key % lanes) as usize].send(due).await;
            }
        }
    };
    let ends = async {
        match limit {
            Some(limit) => sleep_until(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = hand_out => {}
        () = course.stop.cancelled() => {}
        () = ends => {}
    }
    drop(queues);
    let mut whole = Account::nothing(publisher.keys);
    if !course.stop.is_cancelled() {
        whole.not_sent = schedule.behind(course.start.elapsed());
    }
    let (mut first, mut last) = (None::<Instant>, None::<Instant>);
    while let Some(ended) = tasks.join_next().await {
        let lane = match ended {
            Ok(lane) => lane,
            Err(error) => {
                whole.reasons.add(format!("publish: {error}"), 1);
                continue;
            }
        };
        first = [first, lane.first].into_iter().flatten().min();
        last = last.max(lane.last);
        add_up(&mut whole, lane.account, lane.number, lanes);
    }
    if let (Some(first), Some(last)) = (first, last) {
        whole.took = last - first;
    }
    whole
}

fn add_up(whole: &mut Account, lane: Account, number: u32, lanes: u32) {
    for (turn, published) in lane.published.into_iter().enumerate() {
        if let Some(entry) = whole.published.get_mut(number as usize + turn * lanes as usize) {
            *entry = published;
        }
    }
    whole.sent += lane.sent;
    whole.unsure += lane.unsure;
    whole.not_sent += lane.not_sent;
    whole.late.add(&lane.late.counted());
    whole.reasons.merge(lane.reasons);
}

/// One HTTP connection, and the channels that keep to it.
struct Lane {
    publisher: Publisher,
    url: UrlTemplate,
    content_type: String,
    course: Course,
    /// Nothing is sent from then on.
    limit: Option<Instant>,
    number: u32,
    lanes: u32,
    client: Option<Client>,
    /// Its entries are every `lanes`-th key.
    account: Account,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Lane {
    async fn run(mut self, mut due: mpsc::Receiver<Due>) -> Self {
        while let Some(event) = due.recv().await {
            if self.course.stop.is_cancelled() {
                return self;
            }
            if self.limit.is_some_and(|limit| Instant::now() >= limit) {
                self.account.not_sent += 1;
                continue;
            }
            self.publish(event).await;
        }
        self
    }

    async fn publish(&mut self, due: Due) {
        let turn = due.key / self.lanes;
        let Some(channel) = self.account.published.get_mut(turn as usize) else { return };
        if due.sequence == Some(0) {
            *channel = Published::default();
        }
        let sequence = channel.attempted;
        channel.attempted += 1;
        self.account.sent += 1;
        add(&self.course.counters.sent, 1);
        let sending = timeout(ANSWER_TIMEOUT, self.send(due, sequence)).await;
        let Err(reason) = sending.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}"))) else {
            return;
        };
        self.account.doubt(turn, sequence);
        add(&self.course.counters.unsure, 1);
        self.account.reasons.add(format!("publish: {reason}"), 1);
        // After a failure nobody knows what the connection still carries.
        self.client = None;
        let _ = timeout(FAILURE_PAUSE, self.course.stop.cancelled()).await;
    }

    async fn send(&mut self, due: Due, sequence: u64) -> Result<(), String> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.publisher).await?,
        };
        let path = self.url.path_of(&self.publisher.texts.channel(due.key, due.round), None);
        // The time is taken last: connecting again is no part of the latency.
        let marker = Marker { sequence, sent_at_ns: unix_ns(), key: due.key };
        let sent = Instant::now();
        let planned = self.course.start + due.at;
        let late: Duration = sent.saturating_duration_since(planned);
        self.account.late.record_ns(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        self.first.get_or_insert(sent);
        self.last = Some(sent);
        let body = self.publisher.texts.payload(marker, due.round, due.last);
        client.post(&self.url, &path, &self.content_type, body).await?;
        self.client = Some(client);
        Ok(())
    }
}

/// One HTTP connection, with the task that drives it.
struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Client {
    async fn connect(publisher: &Publisher) -> Result<Self, String> {
        let socket = endpoint::connect(publisher.address).await.map_err(|error| format!("connect: {error}"))?;
        let handshake = http1::handshake(TokioIo::new(socket)).await;
        let (sender, connection) = handshake.map_err(|error| format!("handshake: {}", describe(&error)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The request that this connection fails tells the error.
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: driver })
    }

    /// Posts an event and reads the answer, any of 200 to 299.
    async fn post(&mut self, url: &UrlTemplate, path: &str, content_type: &str, body: String) -> Result<(), String> {
        let request = Request::post(path)
            .header(http::header::HOST, &url.authority.text)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| describe(&error))?;
        let response = self.sender.send_request(request).await.map_err(|error| describe(&error))?;
        let status = response.status();
        // Read to its end, or the connection cannot be used again.
        let answer = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        answer.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        Ok(())
    }
}
