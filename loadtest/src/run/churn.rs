//! All connections opened and closed, again and again: what of the servers' memory comes back.

use std::time::Duration;

use super::Run;
use crate::report::Churn;
use crate::worker::message::Command;

/// How long the servers have after the last round to give memory back.
const SETTLED_AFTER: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// Opens and closes, and reads the servers' memory after each round.
    pub(super) async fn churn(&mut self) -> Result<(), String> {
        let mut churn = Churn::default();
        while churn.rounds < self.args.rounds() && !self.interrupts.stop.is_cancelled() {
            self.connect().await?;
            self.pause("idle", self.args.idle).await?;
            if churn.rounds == 0 {
                self.readings.idle = Some(self.reading());
            }
            self.fleet.tell(&Command::CloseAll).await?;
            self.pause("closed", self.args.idle).await?;
            churn.rss_after_kib.extend(self.reading().rss_kib());
            churn.rounds += 1;
        }
        self.pause("settling", SETTLED_AFTER).await?;
        let end = self.reading();
        churn.rss_settled_kib = end.rss_kib();
        self.readings.end = Some(end);
        self.churn = Some(churn);
        Ok(())
    }
}
