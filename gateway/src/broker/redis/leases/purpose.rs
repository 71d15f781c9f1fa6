//! What leases are for, and how Redis is told of them: so that a user has no more connections than so many, or so that others are told of
//! users who come and go.

use std::time::Duration;

use ::redis::{Cmd, RedisError};
use shared::channel::Channel;
use shared::keys::Keys;
use shared::redis::Functions;
use shared::redis::functions::is_missing;

use super::Registry;
use super::errors::is_about_one_key;
use super::wires::Wires;
use crate::broker::Partition;

/// At how many users one call looks: each may be a publish.
const LOOK_AT: u32 = 200;
/// How often one look goes on where there are more.
const LOOKS: u32 = 20;

/// What leases are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// So that a user has no more than so many.
    Limit,
    /// So that others are told of a user who comes, and of one who has had none for so long.
    Presence(Duration),
}

impl Purpose {
    /// Where a user's leases are.
    pub(super) fn partition(self, keys: &Keys, user: &str) -> Partition {
        match self {
            Self::Limit => keys.partition_of_user(user),
            Self::Presence(_) => Channel::presence(user).map_or(0, |channel| keys.partition(&channel)),
        }
    }

    /// Takes the user's leases, renews them, or for no `time` gives them back.
    pub(super) fn command(
        self,
        functions: &Functions,
        keys: &Keys,
        user: &str,
        time: Duration,
        limit: Option<usize>,
        names: &[String],
    ) -> Cmd {
        match self {
            Self::Limit => functions.lease(&keys.user(user), time, limit, names),
            Self::Presence(grace) => {
                // Longer than a channel may be: the call is refused, and says so.
                let channel = Channel::presence(user).map_or_else(|_| String::new(), |channel| keys.channel(&channel));
                functions.presence(&channel, time, grace, names)
            }
        }
    }
}

/// Has Redis look for those who have gone, on every partition. Returns what failed for one key alone.
pub(super) async fn look(registry: &Registry, wires: &Wires) -> Result<Option<RedisError>, RedisError> {
    let Purpose::Presence(grace) = registry.purpose else { return Ok(None) };
    let mut failed = None;
    for partition in 0..registry.keys.partitions() {
        let Some(wire) = wires.to(partition) else { continue };
        let key = registry.keys.leaving(partition);
        for _ in 0..LOOKS {
            let loaded = registry.library.on(wire.server.address());
            let look = loaded.functions.absent(&key, grace, LOOK_AT);
            match look.query_async::<u32>(&mut wire.connection.clone()).await {
                Ok(LOOK_AT) => {}
                Ok(_) => break,
                Err(error) if is_missing(&error) => {
                    registry.library.reload(&loaded, &wire.server, &registry.keys, partition).await?;
                }
                Err(error) if is_about_one_key(&error) => {
                    failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(failed)
}
