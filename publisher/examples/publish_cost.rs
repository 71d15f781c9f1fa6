//! What one durable publish costs the server: CPU of redis-server for `sse_publish`, beside that of the plain commands
//! which anybody would need who keeps a history by hand.
//!
//! ```sh
//! cargo run -p publisher --example publish_cost                        # redis-server on the PATH
//! cargo run -p publisher --example publish_cost -- valkey-server 9     # another program, nine pairs instead of five
//! ```
//!
//! Both are pipelined by 64, with 256 bytes of payload. The floor is
//! `MULTI, SET k v EX 600, XADD key MAXLEN ~ 1000 * d payload, EXPIRE key 3600, PUBLISH key payload, EXEC`. Pairs take
//! turns on one server, emptied before each run; a ratio is the median of its pairs, which stands still where times drift.
#![allow(clippy::print_stdout)] // Printing is what it is for.

use std::env;
use std::error::Error;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError};
use shared::keys::Keys;
use shared::redis::functions::PublishArgs;
use shared::redis::{Client, Functions, Settings};
use testkit::RedisServer;

const DEPTH: usize = 64;
const PAYLOAD: [u8; 256] = [b'x'; 256];
/// Publishes of one run, a multiple of [`DEPTH`]; and those before it that are not measured, in which streams fill up.
const PUBLISHES: usize = 640 * DEPTH;
const WARM_UP: usize = 160 * DEPTH;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One way to publish: the commands of event `number` on the channel `key`.
type Commands<'a> = &'a dyn Fn(&mut Pipeline, &str, usize);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut args = env::args().skip(1);
    let program = args.next().unwrap_or_else(|| "redis-server".to_owned());
    let pairs: usize = args.next().unwrap_or_else(|| "5".to_owned()).parse()?;
    let server = RedisServer::builder().program(program).start().await;
    let mut link = Client::new(&Settings::new(&server.url()))?.connect().await?;
    let functions = Functions::load(&mut link, &Keys::default()).await?;

    let call = |pipe: &mut Pipeline, key: &str, once: Option<&str>| {
        _ = pipe.add_command(functions.publish(key, &PAYLOAD, PublishArgs { once, ..PublishArgs::default() }));
    };
    let plain = |pipe: &mut Pipeline, key: &str, once: &str| {
        pipe.cmd("MULTI").cmd("SET").arg(once).arg("1700000000000-0 0123456789abcdef").arg("EX").arg(600);
        pipe.cmd("XADD").arg(key).arg("MAXLEN").arg("~").arg(1_000).arg("*").arg("d").arg(&PAYLOAD);
        pipe.cmd("EXPIRE").arg(key).arg(3_600).cmd("PUBLISH").arg(key).arg(&PAYLOAD).cmd("EXEC");
    };
    let name = |number: usize| format!("{number:032x}");
    println!("channels  once   us of sse_publish  us of the floor  ratio");
    for channels in [1, 1_000] {
        for once in [false, true] {
            let ours: Commands<'_> = &|pipe, key, n| call(pipe, key, once.then(|| name(n)).as_deref());
            // A key for each event where ours has one, else the same for all.
            let floor: Commands<'_> = &|pipe, key, n| plain(pipe, key, &name(if once { n } else { 0 }));
            let mut runs = Vec::new();
            for _ in 0..pairs {
                runs.push((run(&mut link, channels, ours).await?, run(&mut link, channels, floor).await?));
            }
            let median = |of: fn(&(f64, f64)) -> f64| {
                let mut values: Vec<f64> = runs.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let (ours, floor, ratio) = (median(|run| run.0), median(|run| run.1), median(|run| run.0 / run.1));
            println!("{channels:>8}  {once:<5}  {ours:>17.2}  {floor:>15.2}  {ratio:>5.2}");
        }
    }
    Ok(())
}

/// Microseconds of the server's CPU a publish.
async fn run(link: &mut MultiplexedConnection, channels: usize, commands: Commands<'_>) -> Outcome<f64> {
    redis::cmd("FLUSHALL").exec_async(link).await?;
    publish(link, channels, commands, 0..WARM_UP).await?;
    let before = cpu(link).await?;
    publish(link, channels, commands, WARM_UP..WARM_UP + PUBLISHES).await?;
    Ok((cpu(link).await? - before) * 1e6 / PUBLISHES as f64)
}

async fn publish(
    link: &mut MultiplexedConnection,
    channels: usize,
    commands: Commands<'_>,
    numbers: std::ops::Range<usize>,
) -> Result<(), RedisError> {
    for first in numbers.step_by(DEPTH) {
        let mut pipe = Pipeline::new();
        for number in first..first + DEPTH {
            commands(&mut pipe, &format!("sse:user:{}", number % channels), number);
        }
        pipe.exec_async(link).await?;
    }
    Ok(())
}

/// Seconds of CPU that the server has used.
async fn cpu(link: &mut MultiplexedConnection) -> Outcome<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(link).await?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).ok_or("INFO cpu has no such field");
    Ok(field("used_cpu_sys:")?.parse::<f64>()? + field("used_cpu_user:")?.parse::<f64>()?)
}
