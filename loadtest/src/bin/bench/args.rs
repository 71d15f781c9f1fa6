//! Flags: their help, limits and errors. It must not act on them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::rows::ROWS;

/// Measures sse-gateway beside sse-floor and sse-naive, and says which bars it meets.
///
/// Everything it needs it starts by itself on free ports of 127.0.0.1, redis-server included, and ends again.
#[derive(Debug, Parser)]
#[command(name = "sse-bench", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Without one, rows are measured.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) rows: Rows,
}

const EXIT_CODES: &str = "\
Exit code:
  0  every bar was met
  1  a bar was missed, or a row could not be measured
  2  flags that are wrong";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Opens N event streams, each on a channel of its own, over as many nodes as that takes, and publishes once on each
    Million(Million),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rows {
    /// Rows to measure, by name, with commas between them; all when left out
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) rows: Vec<String>,

    /// Fewer pairs and shorter windows: minutes instead of an hour, and figures that spread more
    #[arg(long)]
    pub(crate) quick: bool,

    /// Print the rows with what they measure, and end
    #[arg(long)]
    pub(crate) list: bool,

    /// Where the report goes [default: docs/benchmarks.md when all rows are measured, else benchmarks.md beside the raw figures]
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Folder for the raw figures, a JSON file a row
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub(crate) raw: PathBuf,

    /// Folder of the programs [default: where sse-bench itself is]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Million {
    /// Event streams to open
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,

    /// Event streams of one node: its open files bound them
    #[arg(long, value_name = "N", default_value_t = 18_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) per_node: u32,

    /// New connections per second, over all nodes
    #[arg(long, value_name = "PER_SECOND", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connect_rate: u32,

    /// Events per second, over all channels
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,

    /// Per cent of the machine's memory at which to stop opening
    #[arg(long, value_name = "PER_CENT", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) memory_limit: u32,

    /// Folder of the programs [default: where sse-bench itself is]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: Option<PathBuf>,
}

impl Args {
    /// What no flag can tell alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        let unknown = self.rows.rows.iter().find(|name| ROWS.iter().all(|row| row.name != name.as_str()));
        let Some(unknown) = unknown else { return Ok(()) };
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        Err(format!("--rows: there is no row {unknown:?}, the rows are {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, String> {
        let args = Args::try_parse_from([&["sse-bench"], flags].concat()).map_err(|error| error.to_string())?;
        args.check()?;
        Ok(args)
    }

    #[test]
    fn the_flags_are_well_formed() {
        Args::command().debug_assert();
        assert_eq!(parse(&["--rows", "broadcast,memory"]).unwrap().rows.rows, ["broadcast", "memory"]);
        let args = parse(&["million", "--connections", "20000"]).unwrap();
        let Some(Command::Million(million)) = args.command else { panic!("{args:?}") };
        assert_eq!((million.connections, million.per_node, million.memory_limit), (20_000, 18_000, 90));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flags, reason) in [
            (&["--rows", "broadcast,nope"][..], "no row \"nope\", the rows are broadcast,"),
            (&["million", "--connections", "0"], "1..=1000000"),
            (&["million", "--connections", "1000001"], "1..=1000000"),
            (&["million", "--memory-limit", "100"], "1..=99"),
            (&["million", "--per-node", "99"], "100..=1000000"),
            (&["--quick", "million"], "cannot be used with"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(reason), "{flags:?}: {error}");
        }
    }
}
