//! Flags: their help, limits and errors. It must not act on them.

use std::path::PathBuf;

use chaos::fault::Fault;
use chaos::lanes::Lanes;
use chaos::store::Redis;
use clap::Parser;

/// Binary that is looked for beside this one.
const GATEWAY: &str = "sse-gateway";

const EXAMPLES: &str = "\
Examples:
  Twenty rounds of one to three faults each, drawn anew:
    sse-chaos

  The rounds of an earlier run again, or the seventh of them alone:
    sse-chaos --seed 4711
    sse-chaos --seed 4711 --only 7

  One fault, again and again, on one lane, and another set of them:
    sse-chaos --rounds 50 --faults gateway-kill --lanes direct
    sse-chaos --faults flushall,restart-empty,failover-lagging

  With Sentinels, which say who is the primary, or on a Redis Cluster:
    sse-chaos --redis sentinel
    sse-chaos --redis cluster --faults slot-moved,slots-moved,primary-added

Exit code:
  0  every client heard every event once and in order, or was told of a gap
     that had a reason
  1  otherwise; the evidence is printed, and logs are kept in --logs
  2  flags that are wrong
  3  the harness could not do its work, which says nothing about the cluster

The same seed does the same things at about the same times; what comes of them
may still differ. Ctrl-C ends early, with the table.";

/// Breaks a real cluster (Redis, with Sentinels, as a Redis Cluster or alone, and three gateways, started for it) in every way we know of, while events are published
/// and clients listen, and checks that no event is lost, repeated or out of order, or that clients were told of a gap.
#[derive(Debug, Clone, Parser)]
#[command(name = "sse-chaos", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Rounds, each with a cluster of its own; one takes 5 to 40 s
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: u32,

    /// What everything is drawn from; by chance when left out, and printed
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,

    /// Only this round, counted from 1
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) only: Option<u32>,

    /// Faults to draw from, by comma; all when left out (--list-faults names them)
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = clap::builder::ValueParser::new(|text: &str| text.parse::<Fault>()))]
    pub(crate) faults: Vec<Fault>,

    /// Faults in each round; one to three when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=15))]
    pub(crate) at_once: Option<u32>,

    /// Clients, each on one to six channels
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) clients: u32,

    /// Channels, each with ten events a second
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) channels: u32,

    /// What they have for Redis: single, sentinel (a primary, a replica and three Sentinels), or cluster (three primaries with a
    /// replica each, and 16 partitions)
    #[arg(long, value_name = "REDIS", default_value = "single", value_parser = clap::builder::ValueParser::new(|text: &str| text.parse::<Redis>()))]
    pub(crate) redis: Redis,

    /// The lane by which nodes serve event streams: direct, hyper, or mixed (each by turns, never all the same)
    #[arg(long, value_name = "LANES", default_value = "mixed", value_parser = clap::builder::ValueParser::new(|text: &str| text.parse::<Lanes>()))]
    pub(crate) lanes: Lanes,

    /// The gateway's binary; the one beside this program when left out
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,

    /// Folder for what the processes of a round log; a folder of its own for each run is made there, and kept for the rounds
    /// in which something was wrong
    #[arg(long, value_name = "DIR", default_value = "target/chaos")]
    pub(crate) logs: PathBuf,

    /// Keep the logs of every round
    #[arg(long)]
    pub(crate) keep_logs: bool,

    /// Print the faults and what they are, and end
    #[arg(long)]
    pub(crate) list_faults: bool,
}

impl Args {
    /// What no flag can tell alone. The error names the flag.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(only) = self.only.filter(|only| *only > self.rounds) {
            return Err(format!("--only {only} is beyond --rounds {}", self.rounds));
        }
        if let Some(fault) = self.faults.iter().find(|fault| !fault.is_of(self.redis)) {
            let needed = if fault.is_of(Redis::Sentinel) { "sentinel or cluster" } else { "cluster" };
            return Err(format!("--faults {fault} needs --redis {needed}"));
        }
        let gateway = self.gateway()?;
        if !gateway.is_file() {
            return Err(format!("--gateway: there is no file {}; build it: cargo build -p gateway", gateway.display()));
        }
        Ok(())
    }

    /// The gateway's binary.
    pub(crate) fn gateway(&self) -> Result<PathBuf, String> {
        let given = self.gateway.clone();
        let found = given.map_or_else(|| std::env::current_exe().map(|this| this.with_file_name(GATEWAY)), Ok);
        // The gateway runs in another folder than this one.
        let absolute = found.and_then(std::path::absolute);
        absolute.map_err(|error| format!("--gateway: {error}"))
    }

    /// Faults to draw from.
    pub(crate) fn among(&self) -> Vec<Fault> {
        let possible = Fault::ALL.into_iter().filter(|fault| fault.is_of(self.redis));
        if self.faults.is_empty() { possible.collect() } else { self.faults.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, String> {
        let args = Args::try_parse_from([&["sse-chaos"], flags].concat()).map_err(|error| error.to_string())?;
        args.check()?;
        Ok(args)
    }

    #[test]
    fn the_flags_are_well_formed_and_the_defaults_are_those_of_the_help() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let args = parse(&["--gateway", "/proc/self/exe"]).unwrap();
        assert_eq!((args.rounds, args.clients, args.channels, args.seed), (20, 60, 24, None));
        assert_eq!((args.among().len(), args.lanes), (Fault::ALL.len() - 4, Lanes::Mixed));
        let args = parse(&["--gateway", "/proc/self/exe", "--redis", "sentinel"]).unwrap();
        assert_eq!(args.among().len(), Fault::ALL.len() - 3);
        let args = parse(&["--gateway", "/proc/self/exe", "--redis", "cluster"]).unwrap();
        assert_eq!(args.among(), Fault::ALL);
        let args = parse(&["--gateway", "/proc/self/exe", "--faults", "reset,deaf", "--seed", "7"]).unwrap();
        assert_eq!((args.among(), args.seed), (vec![Fault::Reset, Fault::Deaf], Some(7)));
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_and_the_reason() {
        for (flags, reason) in [
            (&["--rounds", "0"][..], "1..=100000"),
            (&["--seed", "x"], "invalid digit"),
            (&["--only", "21"], "beyond --rounds 20"),
            (&["--faults", "earthquake"], "is none of gateway-kill"),
            (&["--lanes", "both"], "is none of direct, hyper, mixed"),
            (&["--redis", "clusters"], "is none of single, sentinel, cluster"),
            (&["--faults", "failover-asked"], "needs --redis sentinel or cluster"),
            (&["--faults", "slot-moved", "--redis", "sentinel"], "needs --redis cluster"),
            (&["--clients", "0"], "1..=2000"),
            (&["--channels", "501"], "1..=500"),
            (&["--at-once", "16"], "0..=15"),
            (&["--gateway", "/nowhere/sse-gateway"], "no file /nowhere/sse-gateway"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(reason) && error.contains(flags[0]), "{flags:?}: {error}");
        }
    }
}
