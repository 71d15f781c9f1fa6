//! By what a stream was let in, and for how long: a token, which ends, is renewed or revoked while the stream is open.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use shared::channel::Channel;
use shared::event_stream::encode;
use tokio::time::Instant;

use super::passes::{Passes, Registered, Terms};
use super::{CloseReason, Connection, Next, Pieces};
use crate::hub::Wakeup;

/// A token that ends beyond that is looked at again then: instants have an end.
const FAR: Duration = Duration::from_secs(24 * 3_600);

/// For a stream that is opened with a token.
#[derive(Debug)]
pub struct Credential {
    /// Where it can be found.
    pub passes: Arc<Passes>,
    /// Of the token.
    pub terms: Terms,
    /// How long before its end the stream is told.
    pub notice: Duration,
}

/// Of an open stream with a token. Dropping it takes it out of the passes.
#[derive(Debug)]
pub(super) struct Pass {
    registered: Registered,
    number: u64,
    notice: Duration,
    /// How often it had been renewed when `expires` was read.
    renewals: u32,
    /// When the token ends, as far as it can be told.
    expires: SystemTime,
    /// When to look again.
    due: Instant,
    /// The stream was told that the token ends soon.
    told: bool,
}

/// What a stream has to do about its token.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Stay,
    /// Write this.
    Say(Vec<u8>),
    /// Write this, and end.
    Leave(CloseReason, Vec<u8>),
}

impl Connection {
    /// It was opened with a token. To be said before it is asked anything.
    #[must_use]
    pub fn admitted(mut self, credential: Credential) -> Self {
        if let Some(opening) = &self.opening {
            let channels = self.readers.iter().map(|reader| reader.subscription.channel().clone()).collect();
            let pass = Pass::new(credential, opening.number, channels, &self.wakeup, Instant::now());
            self.pass = Some(Box::new(pass));
        }
        self
    }

    /// What its token has it do, if it has one.
    pub(super) fn look_at_pass(&mut self, now: Instant) -> Option<Next> {
        match self.pass.as_mut()?.look(now, SystemTime::now()) {
            Verdict::Stay => None,
            Verdict::Say(bytes) => {
                self.put_off(now);
                Some(Next::Write(Bytes::from(bytes).into()))
            }
            Verdict::Leave(reason, bytes) => {
                let last = if bytes.is_empty() { Pieces::default() } else { Bytes::from(bytes).into() };
                Some(self.end(reason, last))
            }
        }
    }
}

impl Pass {
    fn new(credential: Credential, number: u64, channels: Box<[Channel]>, wakeup: &Arc<Wakeup>, now: Instant) -> Self {
        let Credential { passes, terms, notice } = credential;
        let expires = terms.expires;
        let registered = passes.enter(number, terms, channels, wakeup);
        Self { registered, number, notice, renewals: 0, expires, due: now, told: false }
    }

    /// As if its token had come to its end.
    #[cfg(test)]
    pub(super) fn end_now(&mut self) {
        self.expires = SystemTime::UNIX_EPOCH;
    }

    /// When it has to be asked again at the latest.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// What there is to do at `now`, which is `time` of day. To be asked whenever the stream looks.
    fn look(&mut self, now: Instant, time: SystemTime) -> Verdict {
        let (expires, renewals, ends) = self.registered.entry.look();
        match ends {
            Some(CloseReason::Revoked) => return Verdict::Leave(CloseReason::Revoked, unauthorized("revoked")),
            Some(reason) => return Verdict::Leave(reason, Vec::new()),
            None => {}
        }
        if renewals != self.renewals {
            (self.renewals, self.expires, self.told) = (renewals, expires, false);
        }
        let left = self.expires.duration_since(time).unwrap_or_default();
        if left.is_zero() {
            return Verdict::Leave(CloseReason::Expired, unauthorized("expired"));
        }
        let until_notice = left.saturating_sub(self.notice);
        if self.told || !until_notice.is_zero() {
            self.due = now + if self.told { left } else { until_notice }.min(FAR);
            return Verdict::Stay;
        }
        self.told = true;
        self.due = now + left.min(FAR);
        Verdict::Say(expiring(self.number, left))
    }
}

/// As `sse.open` names a connection.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}")
}

/// The number of a connection by the name that its `sse.open` has.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (name.len() == 16 && name.bytes().all(is_hex)).then(|| u64::from_str_radix(name, 16).ok())?
}

fn expiring(number: u64, left: Duration) -> Vec<u8> {
    let data = serde_json::json!({ "connection": name(number), "expires_in": left.as_secs() });
    event("sse.token-expiring", &data)
}

fn unauthorized(reason: &str) -> Vec<u8> {
    event("sse.unauthorized", &serde_json::json!({ "reason": reason }))
}

fn event(name: &str, data: &serde_json::Value) -> Vec<u8> {
    let mut out = format!("event: {name}\n").into_bytes();
    encode::data(&mut out, &data.to_string());
    encode::end(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        START + Duration::from_secs(seconds)
    }

    fn terms(expires: u64) -> Terms {
        Terms { user: Some("42".into()), token: Some("j".into()), issued: None, expires: at(expires) }
    }

    fn pass(passes: &Arc<Passes>, expires: u64, now: Instant) -> Pass {
        let credential = Credential { passes: passes.clone(), terms: terms(expires), notice: Duration::from_secs(60) };
        Pass::new(credential, 0xff, Box::default(), &Arc::default(), now)
    }

    #[tokio::test(start_paused = true)]
    async fn is_told_ahead_of_the_end_once_and_then_ends() {
        let (passes, now) = (Arc::new(Passes::default()), Instant::now());
        let mut pass = pass(&passes, 1_000, now);
        assert_eq!((pass.look(now, at(100)), pass.due()), (Verdict::Stay, now + Duration::from_secs(840)));
        let told = "event: sse.token-expiring\ndata: {\"connection\":\"00000000000000ff\",\"expires_in\":60}\n\n";
        assert_eq!(pass.look(now, at(940)), Verdict::Say(told.as_bytes().to_vec()));
        assert_eq!((pass.look(now, at(941)), pass.due()), (Verdict::Stay, now + Duration::from_secs(59)));
        let gone = "event: sse.unauthorized\ndata: {\"reason\":\"expired\"}\n\n";
        assert_eq!(pass.look(now, at(1_000)), Verdict::Leave(CloseReason::Expired, gone.as_bytes().to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_puts_the_end_off_and_is_told_of_anew() {
        let (passes, now) = (Arc::new(Passes::default()), Instant::now());
        let mut pass = pass(&passes, 1_000, now);
        assert!(matches!(pass.look(now, at(990)), Verdict::Say(_)));
        passes.renew(0xff, terms(2_000), |_| true);
        assert_eq!((pass.look(now, at(1_500)), pass.due()), (Verdict::Stay, now + Duration::from_secs(440)));
        assert!(matches!(pass.look(now, at(1_945)), Verdict::Say(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_that_others_want() {
        let (passes, now) = (Arc::new(Passes::default()), Instant::now());
        let (mut one, mut other) = (pass(&passes, 1_000, now), pass(&passes, 1_000, now));
        passes.disconnect("42");
        // Both have the number 0xff here, and the one that came last is found by it.
        assert_eq!(other.look(now, at(0)), Verdict::Leave(CloseReason::Disconnected, Vec::new()));
        assert_eq!(one.look(now, at(0)), Verdict::Stay);
    }

    #[test]
    fn names() {
        assert_eq!((name(0xff).as_str(), number("00000000000000ff")), ("00000000000000ff", Some(0xff)));
        for wrong in ["", "ff", "00000000000000FF", "00000000000000fg", "+0000000000000ff", "00000000000000ff0"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
