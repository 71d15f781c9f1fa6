//! How many single publishes a second one process gets out, and what each costs it and the server, beside the same calls
//! over a pool of 16 connections, one call on each at a time.
//!
//! ```sh
//! cargo run --release -p publisher --example publish_rate              # a redis-server of its own
//! cargo run --release -p publisher --example publish_rate -- 5         # five pairs instead of three
//! ```
//!
//! Pairs take turns on one server. Where it shares its cores with this program, the ratio of the two is what counts.
#![allow(clippy::print_stdout)] // Printing is what it is for.

use std::env;
use std::error::Error;
use std::fs;

use deadpool_redis::{Manager, Pool, QueueMode, Runtime};
use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use publisher::{Event, Publisher};
use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::functions::PublishArgs;
use shared::redis::{Client, Functions, PublishReply, Settings};
use testkit::RedisServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

const DATA: &str = match std::str::from_utf8(&[b'x'; 240]) {
    Ok(data) => data,
    Err(_) => "",
};
const CALLERS: [usize; 3] = [1, 64, 256];

type Failed = Box<dyn Error + Send + Sync>;
/// Publishes a second, and microseconds of CPU a publish: of this process and of the server.
type Figures = [f64; 3];
/// Of the pool, and of the line.
type Pair = (Figures, Figures);

/// Publishes number `n` of one run.
trait Way: Clone + Send + 'static {
    fn publish(&self, n: usize) -> BoxFuture<'_, Result<(), Failed>>;
}

#[derive(Clone)]
struct Ours(Publisher, Channel);

impl Way for Ours {
    fn publish(&self, _: usize) -> BoxFuture<'_, Result<(), Failed>> {
        async { Ok(self.0.publish(&self.1, Event::text(DATA)).await.map(drop)?) }.boxed()
    }
}

#[derive(Clone)]
struct Pooled(Pool, Functions);

impl Way for Pooled {
    fn publish(&self, n: usize) -> BoxFuture<'_, Result<(), Failed>> {
        async move {
            let once = format!("{:016x}{n:016x}", fastrand::u64(..));
            let args = PublishArgs { once: Some(&once), once_ttl_s: Some(60), ..PublishArgs::default() };
            let payload = format!("{{\"data\":\"{DATA}\"}}");
            let publish = self.1.publish("sse:rate", payload.as_bytes(), args);
            let _: PublishReply = publish.query_async(&mut self.0.get().await?).await?;
            Ok(())
        }
        .boxed()
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let pairs: usize = env::args().nth(1).unwrap_or_else(|| "3".to_owned()).parse()?;
    let server = RedisServer::start().await;
    let settings = Settings::new(&server.url());
    let client = Client::new(&settings)?;
    let functions = Functions::load(&mut client.connect().await?, &Keys::default()).await?;
    let of_pool = client.server().await?;
    let manager = Manager::new_with_config(of_pool.connection_info().clone(), of_pool.connection_config())?;
    let pool = Pool::builder(manager).max_size(16).runtime(Runtime::Tokio1).queue_mode(QueueMode::Lifo).build()?;
    let pooled = Pooled(pool, functions);
    let ours = Ours(Publisher::connect(&settings).await?, Channel::parse("rate")?);
    println!("callers           publishes/s   us of this process   us of the server");
    for callers in CALLERS {
        let publishes = if callers == 1 { 5_000 } else { 40_000 };
        let mut runs = Vec::new();
        for _ in 0..pairs {
            let before = run(&server, &pooled, callers, publishes).await?;
            runs.push((before, run(&server, &ours, callers, publishes).await?));
        }
        let median = |of: &dyn Fn(&Pair) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let row = |what: &str, of: fn(&Pair, usize) -> f64| {
            let [rate, here, there] = [0, 1, 2].map(|i| median(&|run| of(run, i)));
            println!("{callers:>7}  {what:<7} {rate:>12.2} {here:>20.2} {there:>18.2}");
        };
        row("pool", |run, i| run.0[i]);
        row("line", |run, i| run.1[i]);
        row("ratio", |run, i| run.1[i] / run.0[i]);
    }
    Ok(())
}

async fn run<W: Way>(server: &RedisServer, way: &W, callers: usize, publishes: usize) -> Result<Figures, Failed> {
    server.cli(&["FLUSHALL"]).await;
    // Connections are opened before.
    try_join_all((0..callers).map(|n| way.publish(n))).await?;
    let before = [cpu(std::process::id())?, cpu(server.pid())?];
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let way = way.clone();
        tasks.spawn(async move {
            for n in 0..publishes / callers {
                way.publish(n).await?;
            }
            Ok::<_, Failed>(())
        });
    }
    tasks.join_all().await.into_iter().collect::<Result<(), _>>()?;
    let (took, done) = (start.elapsed().as_secs_f64(), (publishes / callers * callers) as f64);
    let used = |after: f64, before: f64| (after - before) * 1e6 / done;
    Ok([done / took, used(cpu(std::process::id())?, before[0]), used(cpu(server.pid())?, before[1])])
}

/// Seconds of CPU that a process has used, from `/proc`, where a tick is 10 ms.
fn cpu(pid: u32) -> Result<f64, Failed> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).ok_or("no such field").and_then(|f| f.parse::<f64>().map_err(|_| "?"));
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
