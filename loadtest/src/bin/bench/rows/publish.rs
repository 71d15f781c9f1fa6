//! What a durable publish costs Redis, beside what one would write without a function: the commands that a history, a last
//! position and a message take, in a transaction.

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError};
use serde_json::json;
use shared::keys::Keys;
use shared::redis::functions::{Functions, PublishArgs};

use crate::bench::Bench;
use crate::measure::{Bar, Figures, Measure};
use crate::pairs::interleaved;
use crate::server;

use super::Row;

pub(super) const ROW: Row = Row {
    name: "publish",
    what: "Redis' CPU for a durable publish of 256 B, FCALL sse_publish, against MULTI {SET EX, XADD MAXLEN ~, EXPIRE, PUBLISH}, both pipelined by 64",
    seconds: (150, 35),
    measure: |bench| Box::pin(measure(bench)),
};

/// Publishes in one pipeline.
const PIPELINED: u32 = 64;
const PAYLOAD_BYTES: usize = 256;
const BY_HAND: &str = "target/release/sse-bench --rows publish";

/// How one of the two publishes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Function,
    Transaction,
}

/// What is published, whichever way.
#[derive(Debug, Clone, Copy)]
struct Publishes {
    channels: u32,
    /// Each under an idempotency key of its own; the transaction SETs that instead of a last position.
    once: bool,
    /// How many pipelines.
    pipelines: u32,
}

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let mut measures = Vec::new();
    for (channels, once) in [(1, false), (1_000, false), (1, true), (1_000, true)] {
        let publishes = Publishes { channels, once, pipelines: bench.either(3_000, 800) };
        let what = format!(
            "{channels} channel{}{}",
            if channels == 1 { "" } else { "s" },
            if once { ", with `once`" } else { "" }
        );
        let (mut function, mut transaction) = (Vec::new(), Vec::new());
        let rounds = bench.either(5, 3);
        for (round, job) in interleaved(rounds, 2) {
            let how = [How::Function, How::Transaction][job];
            let cost = cost(how, &publishes).await.map_err(|error| format!("{how:?}: {error}"))?;
            bench.record(
                &format!("{how:?}, {what}"),
                vec![BY_HAND.to_owned()],
                json!({ "redis_cpu_us_per_publish": cost }),
            );
            bench.progress.step(&format!("{what}, round {} of {rounds}, {how:?}: {cost:.2} µs", round + 1));
            if how == How::Function { function.push(cost) } else { transaction.push(cost) }
        }
        let ours = Figures::new("FCALL sse_publish", function);
        let measure = Measure::new(&format!("{what}: CPU of Redis per publish"), "µs", ours);
        measures.push(measure.beside(Figures::new("MULTI", transaction)).at_most(Bar::Ratio(2.3)));
    }
    Ok(measures)
}

/// CPU time of a Redis of its own, in µs a publish.
async fn cost(how: How, publishes: &Publishes) -> Result<f64, String> {
    let redis = server::redis().await;
    let words = |error: RedisError| format!("redis: {error}");
    let client = redis::Client::open(redis.url()).map_err(words)?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(words)?;
    let keys = Keys::new("sse", 1).map_err(|error| error.to_string())?;
    let functions = Functions::load(&mut connection, &keys).await.map_err(words)?;
    // What is the first time for anything is not in the figure.
    let warmup = Publishes { pipelines: publishes.pipelines / 10 + 1, ..*publishes };
    publish(&mut connection, &functions, how, &warmup, 0).await.map_err(words)?;
    let before = cpu_seconds(&mut connection).await?;
    publish(&mut connection, &functions, how, publishes, warmup.pipelines).await.map_err(words)?;
    let spent = cpu_seconds(&mut connection).await? - before;
    Ok(spent * 1e6 / f64::from(publishes.pipelines * PIPELINED))
}

async fn publish(
    connection: &mut MultiplexedConnection,
    functions: &Functions,
    how: How,
    publishes: &Publishes,
    first: u32,
) -> Result<(), RedisError> {
    let payload = "x".repeat(PAYLOAD_BYTES);
    for number in first..first + publishes.pipelines {
        let mut pipe = Pipeline::with_capacity(PIPELINED as usize * 6);
        for number in number * PIPELINED..(number + 1) * PIPELINED {
            let key = format!("sse:bench-{}", number % publishes.channels);
            match how {
                How::Function => function(&mut pipe, functions, &key, &payload, publishes.once, number),
                How::Transaction => transaction(&mut pipe, &key, &payload, publishes.once, number),
            }
        }
        pipe.exec_async(connection).await?;
    }
    Ok(())
}

fn function(pipe: &mut Pipeline, functions: &Functions, key: &str, payload: &str, once: bool, number: u32) {
    let once = once.then(|| number.to_string());
    let args = PublishArgs { once: once.as_deref(), ..PublishArgs::default() };
    pipe.add_command(functions.publish(key, payload.as_bytes(), args));
}

fn transaction(pipe: &mut Pipeline, key: &str, payload: &str, once: bool, number: u32) {
    let set = if once { format!("once:{key}:{number}") } else { format!("last:{key}") };
    pipe.cmd("MULTI");
    pipe.cmd("SET").arg(set).arg(number).arg("EX").arg(600);
    pipe.cmd("XADD").arg(key).arg("MAXLEN").arg("~").arg(1_000).arg("*").arg("d").arg(payload);
    pipe.cmd("EXPIRE").arg(key).arg(3_600);
    pipe.cmd("PUBLISH").arg(key).arg(payload);
    pipe.cmd("EXEC");
}

/// User and system time of the server so far.
async fn cpu_seconds(connection: &mut MultiplexedConnection) -> Result<f64, String> {
    let info: Result<String, RedisError> = redis::cmd("INFO").arg("cpu").query_async(connection).await;
    let info = info.map_err(|error| format!("redis: INFO cpu: {error}"))?;
    cpu_of(&info).ok_or_else(|| format!("redis: INFO cpu tells no CPU time: {info:?}"))
}

fn cpu_of(info: &str) -> Option<f64> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    Some(field("used_cpu_sys:")? + field("used_cpu_user:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_that_of_the_server_and_not_of_its_children() {
        let info = "# CPU\r\nused_cpu_sys:1.25\r\nused_cpu_user:2.5\r\nused_cpu_sys_children:9.0\r\nused_cpu_user_children:9.0\r\n";
        assert_eq!(cpu_of(info), Some(3.75));
        assert_eq!(cpu_of("used_cpu_sys:1.0\r\n"), None);
    }

    #[tokio::test]
    async fn both_ways_leave_a_history_of_what_was_published() {
        let redis = server::redis().await;
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let functions = Functions::load(&mut connection, &Keys::new("sse", 1).unwrap()).await.unwrap();
        for once in [false, true] {
            for how in [How::Function, How::Transaction] {
                redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
                let publishes = Publishes { channels: 2, once, pipelines: 3 };
                publish(&mut connection, &functions, how, &publishes, 0).await.unwrap();
                for channel in ["sse:bench-0", "sse:bench-1"] {
                    let events: u32 = redis::cmd("XLEN").arg(channel).query_async(&mut connection).await.unwrap();
                    assert_eq!(events, 3 * PIPELINED / 2, "{how:?} {once} {channel}");
                }
            }
        }
    }
}
