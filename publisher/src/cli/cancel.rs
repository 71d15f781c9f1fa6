//! `cancel`: a channel's producer is told to stop.

use clap::Parser;
use shared::channel::Channel;

use super::{Common, Failure, channel, output};
use crate::Publisher;

/// Ask whoever produces a channel's events to stop, and print how many listened.
///
/// Example: sse-publisher cancel --channel chat:7
///
/// Prints {"receivers":1}: how many processes listened at that instant (0 is no failure: it is remembered for an hour, for a
/// producer that looks later). Nothing is published, and the channel stays open until its producer closes it.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// Channel
    #[arg(long, value_parser = channel)]
    channel: Channel,
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let config = self.common.load()?;
        let publisher = Publisher::connect(&config.redis).await.map_err(Failure::connect)?;
        let receivers = publisher.cancel(&self.channel).await.map_err(Failure::run)?;
        output::say(&format!("{{\"receivers\":{receivers}}}"));
        Ok(0)
    }
}
