//! As many connections as the machine holds, each on a channel of its own, over as many nodes as their open files need; and an
//! event for each of them. It measures what a connection costs all who take part, the kernel included.

mod counted;
mod limits;
mod said;

use std::io::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::args::Million;
use crate::load::Load;
use crate::programs::Programs;
use crate::progress::say;
use crate::server::{self, Server};
use crate::subject::Place;
use crate::subject::Subject::OursDurable;
use limits::{Limits, Wanted};

/// Files that a node has open beside its streams: Redis, ports, the runtime.
const SPARE_FILES: u64 = 500;
/// Once all are open, this long until memory is read.
const SETTLE_SECONDS: u64 = 5;

/// Opens, publishes, and says what it took. Whether every connection that was opened got its event.
///
/// # Errors
/// Something does not start, or the machine's limits are too low by far.
pub(crate) async fn run(args: &Million) -> Result<bool, String> {
    let programs = Programs::find(args.programs.as_deref())?;
    let nodes = args.connections.div_ceil(args.per_node);
    let limits = Limits::look();
    let wanted = Wanted { connections: args.connections.into(), per_process: u64::from(args.per_node) + SPARE_FILES };
    limits::enough_files(&limits, &wanted)?;
    for advice in limits::advice(&limits, &wanted) {
        say(&format!("too low for all of it: {advice}"));
    }

    let began = Instant::now();
    let redis = server::redis().await;
    say(&format!("Redis is there; starting {nodes} nodes"));
    let mut servers = Vec::new();
    for number in 1..=nodes as usize {
        servers.push(Server::start_in_crowd(&programs, &redis, number).await?);
    }
    let started = began.elapsed();
    say(&format!(
        "{nodes} nodes are there after {:.1} s; opening {} connections, with a keep-alive every {}",
        started.as_secs_f64(),
        args.connections,
        server::CROWD_KEEP_ALIVE,
    ));

    let pids: Result<Vec<_>, _> = servers.iter().map(Server::pid).collect();
    let place = Place {
        ports: servers.iter().map(|server| server.port).collect(),
        pids: pids?.iter().map(u32::to_string).collect(),
        redis_port: redis.port(),
        redis_pid: redis.pid().to_string(),
    };
    let opening = Duration::from_secs(u64::from(args.connections / args.connect_rate));
    let publishing = Duration::from_secs(u64::from(args.connections / args.rate));
    let load = Load::new("unicast").flag("--connections", args.connections).flag("--channels", args.connections);
    let load = load.flag("--connect-rate", args.connect_rate).flag("--rate", args.rate).flag("--size", 128);
    let load = load.switch("--once").flag("--memory-limit", args.memory_limit).seconds("--idle", SETTLE_SECONDS);
    // Opening a million takes minutes on a small machine, and several times that where it is busy.
    let report = load
        .shown()
        .behind()
        .within((opening + publishing) * 5)
        .run(&programs.loadtest, &OursDurable.flags(&place))
        .await;
    if let Some(ended) = servers.iter_mut().find_map(Server::ended) {
        return Err(ended);
    }
    let report = report?;
    let mut text = said::text(&report, nodes, started)?;
    if !report.wrong().is_empty() {
        for line in counted::counted(&servers).await {
            text += &format!("nodes: {line}\n");
        }
    }
    // Nobody there to read it: the code still tells.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(report.wrong().is_empty())
}
