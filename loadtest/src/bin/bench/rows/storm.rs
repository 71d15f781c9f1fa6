//! A node dies with everybody on it, who come back to the other one with their cursors, while publishing goes on.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bench::{Bench, Figure};
use crate::load::{Load, Report};
use crate::measure::{Figures, Measure};
use crate::server::{Server, redis};
use crate::subject::Place;
use crate::subject::Subject::OursDurable;

use super::{CONNECT_RATE, Row};

pub(super) const ROW: Row = Row {
    name: "storm",
    what: "two nodes, 10,000 connections on ten channels, 100 durable events/s, one node killed: until the last client has caught up, with nothing lost",
    seconds: (150, 25),
    measure: |bench| Box::pin(measure(bench)),
};

const CONNECTIONS: u32 = 10_000;
const CAUGHT_UP: Figure = Figure {
    what: "last one caught up after",
    unit: "s",
    of: |report| report.number("/storm/rounds/0/caught_up_seconds"),
};
const DROPPED: Figure =
    Figure { what: "connections cut", unit: "", of: |report| report.number("/storm/rounds/0/dropped") };
/// Opening takes CONNECTIONS / CONNECT_RATE; a busy machine may take longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Publishing is under way by then.
const KILLED_AFTER: Duration = Duration::from_secs(3);

async fn measure(bench: &Bench) -> Result<Vec<Measure>, String> {
    let rounds = bench.either(5, 1);
    let (mut seconds, mut dropped, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let report = storm(bench).await?;
        seconds.push((CAUGHT_UP.of)(&report)?);
        dropped.push((DROPPED.of)(&report)?);
        wrong.extend(report.wrong());
        bench.progress.step(&format!("round {round} of {rounds}: {} {:.2?} s", CAUGHT_UP.what, seconds));
    }
    // Somebody has to have been cut, or it shows nothing.
    let idle = dropped.iter().any(|dropped| *dropped < 1.0).then(|| "no connection was cut".to_owned());
    let measure = Measure::new(CAUGHT_UP.what, CAUGHT_UP.unit, Figures::new(OursDurable.name(), seconds));
    let measure = measure.wrong(wrong).wrong(idle);
    Ok(vec![measure, Measure::new(DROPPED.what, DROPPED.unit, Figures::new(OursDurable.name(), dropped))])
}

async fn storm(bench: &Bench) -> Result<Report, String> {
    let redis = redis().await;
    let stays = Server::start(&bench.programs, OursDurable, &redis, 1).await?;
    let mut dies = Server::start(&bench.programs, OursDurable, &redis, 2).await?;
    let place =
        |ports: Vec<u16>, redis_port, redis_pid: String| Place { ports, pids: Vec::new(), redis_port, redis_pid };
    let ready = redis.folder().join("ready");
    let load = Load::new("storm").flag("--share", 0).flag("--connections", CONNECTIONS).flag("--channels", 10);
    let load = load.flag("--connect-rate", CONNECT_RATE).flag("--rate", 100).flag("--size", 256);
    let load = load.seconds("--idle", 0).seconds("--warmup", 1).seconds("--duration", bench.either(20, 12));

    let flags = OursDurable.flags(&place(vec![stays.port, dies.port], redis.port(), redis.pid().to_string()));
    let watched = load.clone().flag("--ready-file", ready.to_string_lossy().as_ref());
    let run = watched.run(&bench.programs.loadtest, &flags);
    let kill = async {
        wait_for(&ready).await?;
        sleep(KILLED_AFTER).await;
        dies.kill().await
    };
    // A run that fails before anybody is killed ends both.
    let (report, ()) = tokio::try_join!(run, kill)?;

    let by_hand = place(vec![8080, 8081], 6379, "$(pidof redis-server)".to_owned());
    let second = "SSE_GATEWAY__DEMO=false target/release/sse-gateway --redis-url redis://127.0.0.1:6379 \
                  --listen 127.0.0.1:8081 --admin-listen 127.0.0.1:9091 & sleep 8; kill -9 $!";
    let by_hand =
        [OursDurable.started_by_hand().to_owned(), second.to_owned(), load.by_hand(&OursDurable.flags(&by_hand))];
    bench.record(OursDurable.name(), by_hand.to_vec(), report.0.clone());
    Ok(report)
}

async fn wait_for(file: &Path) -> Result<(), String> {
    let deadline = Instant::now() + READY_WITHIN;
    while !file.exists() {
        if Instant::now() > deadline {
            return Err(format!("the connections were not open within {READY_WITHIN:?}"));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
