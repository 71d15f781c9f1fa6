//! Waiting until replicas have what was published: WAIT behind the publishes of a pipeline, on the same connection.
//!
//! WAIT is for what its own connection has written, so a repetition of what is published already, on another connection, writes too
//! (`sse_publish` with waits "1"). What it waits for is memory: a replica that has an event may lose it with its own power.

use std::time::Duration;

use redis::{Pipeline, RedisResult, Value, from_redis_value};
use shared::redis::client::is_not_permitted;
use shared::redis::describe;
use tokio::time::Instant;

use super::failure::Failure;

/// Of the time there is, what the answer needs to come back. Redis looks at times every 100 ms (`hz`).
const ON_THE_WAY: Duration = Duration::from_millis(250);
/// Zero would be for ever.
const LEAST: Duration = Duration::from_millis(1);

/// Has Redis answer once `replicas` have what stands before it in `commands`, or shortly before the deadline.
pub(super) fn wait(commands: &mut Pipeline, replicas: u8, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(ON_THE_WAY).max(LEAST);
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    commands.cmd("WAIT").arg(replicas).arg(ms);
}

/// Of the answer to WAIT, why what was published is not acknowledged. Where replicas are too few the time is over.
pub(super) fn missing(answer: Option<RedisResult<Value>>, replicas: u8) -> Option<Failure> {
    let have = match answer {
        Some(Ok(answer)) => from_redis_value::<u64>(answer).unwrap_or(0),
        Some(Err(error)) if is_not_permitted(&error) => return Some(Failure::of(&error)),
        // A primary that becomes a replica ends all waits, and takes no other.
        Some(Err(error)) => {
            let failure = Failure::away(format!("WAIT: {}", describe(&error)));
            return Some(Failure { breaks_link: true, is_elsewhere: true, ..failure });
        }
        None => 0,
    };
    let why =
        || format!("{have} of {replicas} replicas have the event (wait_replicas); it is published, and may be lost");
    (have < u64::from(replicas)).then(|| Failure { may_pass: false, ..Failure::away(why()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_until_shortly_before_the_deadline() {
        for (left, ms) in [(3_000, 2_750), (250, 1), (0, 1)] {
            let mut commands = redis::pipe();
            wait(&mut commands, 2, Instant::now() + Duration::from_millis(left));
            let packed = String::from_utf8(commands.get_packed_pipeline()).unwrap();
            assert_eq!(packed, format!("*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n${}\r\n{ms}\r\n", ms.to_string().len()));
        }
    }

    #[test]
    fn what_is_enough() {
        let missing = |answer| missing(answer, 2).map(|failure| (failure.may_pass, failure.into_reason()));
        assert_eq!(missing(Some(Ok(Value::Int(2)))), None);
        assert_eq!(missing(Some(Ok(Value::Int(3)))), None);
        for answer in [Some(Ok(Value::Int(1))), Some(Ok(Value::Int(0))), Some(Ok(Value::Okay)), None] {
            let (may_pass, reason) = missing(answer).unwrap();
            assert!(!may_pass && reason.contains("of 2 replicas have the event"), "{reason}");
        }
        // As Redis says where a primary becomes a replica meanwhile.
        let unblocked =
            (redis::ErrorKind::Server(redis::ServerErrorKind::ResponseError), "UNBLOCKED", "force unblock".to_owned());
        let (may_pass, reason) = missing(Some(Err(unblocked.into()))).unwrap();
        assert!(may_pass && reason.starts_with("WAIT: "), "{reason}");
    }
}
