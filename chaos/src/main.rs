//! `sse-chaos`: round after round, and what came of them. This file turns rounds into output and an exit code.

mod args;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;

use chaos::fault::Fault;
use chaos::lanes::names;
use chaos::plan::{Plan, Scale};
use chaos::round::{self, Report, Setting, make_folder};
use chaos::tally::Table;
use chaos::world::round_folder;
use clap::{CommandFactory as _, Parser as _};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use args::Args;

/// Wrongs of a round that are printed; the others are in its folder.
const SHOWN: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.list_faults {
        Fault::ALL.iter().for_each(|fault| say(&format!("{:<17} {}", fault.name(), fault.help())));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = args.check() {
        Args::command().error(clap::error::ErrorKind::ValueValidation, error).exit();
    }
    let mut table = Table::default();
    let outcome = tokio::select! {
        outcome = rounds(&args, &mut table) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    };
    say(&format!("\n{}", table.text()));
    if let Err(error) = &outcome {
        // Nobody there to read it: the code still tells.
        let _ = writeln!(std::io::stderr(), "error: {error}");
    }
    match outcome {
        _ if !table.total().passed() => ExitCode::from(1),
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(3),
    }
}

/// A round that cannot be had says nothing, and keeps nobody from the next one.
async fn rounds(args: &Args, table: &mut Table) -> Result<(), String> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let folder = std::path::absolute(args.logs.join(format!("seed-{seed}"))).map_err(|error| error.to_string())?;
    say(&format!("seed {seed}; logs of rounds that fail are kept in {}", folder.display()));
    let among = args.among();
    let scale = Scale::full(args.clients as usize, args.channels as usize);
    let mut failures: u32 = 0;
    for number in (1..=args.rounds).filter(|number| args.only.is_none_or(|only| only == *number)) {
        // Rounds are drawn each for itself, so that one can be had without those before it.
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(u64::from(number) << 32));
        let plan = Plan::draw(rng.u64(..), &among, args.at_once.map(|count| count as usize), &scale);
        let folder = round_folder(&folder, number);
        // What an earlier run left there would be mixed with this one's.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
        }
        make_folder(&folder)?;
        let direct = args.lanes.direct(number);
        let setting = Setting { gateway: args.gateway()?, redis: args.redis, scale: scale.clone(), direct, folder };
        let began = Instant::now();
        let ran = run(&setting, &plan).await;
        let took = began.elapsed().as_secs_f64();
        let head = format!("round {number}/{} ({took:.1} s) [{}] {}", args.rounds, names(&direct), plan.title());
        let report = match ran {
            Ok(report) => report,
            Err(error) => {
                failures += 1;
                say(&format!("{head}: could not be had: {error}\n  logs: {}", setting.folder.display()));
                continue;
            }
        };
        say(&format!("{head}: {}", numbers(&report)));
        let faults: Vec<Fault> = plan.faults.iter().map(|(fault, _)| *fault).collect();
        table.add(&faults, &report.tally);
        tell(args, seed, number, &setting.folder, &report);
    }
    if failures > 0 { Err(format!("{failures} round(s) could not be had")) } else { Ok(()) }
}

/// What panics there, as a server that does not start, ends the round and all it started.
async fn run(setting: &Setting, plan: &Plan) -> Result<Report, String> {
    // Nothing of a round is used after it.
    let ran = AssertUnwindSafe(round::run(setting, plan)).catch_unwind().await;
    ran.unwrap_or_else(|_| Err("the harness failed, as it says above".to_owned()))
}

fn numbers(report: &Report) -> String {
    let tally = &report.tally;
    let result = if tally.passed() { "ok".to_owned() } else { format!("FAILED ({})", report.wrongs.len()) };
    let idle: Vec<_> = report.idle.iter().map(|(fault, why)| format!("; {fault} had no effect ({why})")).collect();
    format!(
        "{} events, {} heard, {} reconnects, {} gaps, {:.1} s of silence{}: {result}",
        tally.events,
        tally.deliveries,
        tally.reconnects,
        tally.gaps + tally.unexpected,
        tally.silence.as_secs_f64(),
        idle.concat(),
    )
}

/// Shows what is wrong and says where the rest is, or removes what nobody needs.
fn tell(args: &Args, seed: u64, number: u32, folder: &Path, report: &Report) {
    if report.wrongs.is_empty() {
        if !args.keep_logs {
            // What stays is only in the way.
            let _ = std::fs::remove_dir_all(folder);
        }
        return;
    }
    report.wrongs.iter().take(SHOWN).for_each(|wrong| say(&format!("  {wrong}")));
    if let Some(more @ 1..) = report.wrongs.len().checked_sub(SHOWN) {
        say(&format!("  and {more} more"));
    }
    say(&format!("  all of it and the logs: {}; again: --seed {seed} --only {number}", folder.display()));
}

/// Nobody there to read it is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
