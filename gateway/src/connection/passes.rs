//! The connections that were opened with a token, so that they can be found: to end them, or to let them go on with another.
//!
//! Without tokens nobody is in it, and nothing of it is part of a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use shared::channel::Channel;
use shared::order::Revocations;

use super::CloseReason;
use crate::broker::spare::Spare as _;
use crate::hub::Wakeup;

/// What of a token matters to a stream that was opened with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `sub`.
    pub user: Option<Box<str>>,
    /// `jti`.
    pub token: Option<Box<str>>,
    /// `iat`, Unix seconds.
    pub issued: Option<u64>,
    /// `exp`, and the leeway that is given.
    pub expires: SystemTime,
}

/// How a renewal went on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The stream goes on with the other token.
    Done,
    /// There is no such stream here.
    NotHere,
    /// The token is another user's, or grants less than the stream has; or the stream is about to end. It stays as it was.
    Refused,
}

/// One for each connection that is in the passes.
#[derive(Debug)]
pub(super) struct Entry {
    channels: Box<[Channel]>,
    wakeup: Arc<Wakeup>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Written by renewals; read whenever it is asked who is concerned, and by the connection.
    terms: Terms,
    /// Raised with each renewal, so that the connection sees that there was one.
    renewals: u32,
    /// It has to end, for this reason. The first stays.
    ends: Option<CloseReason>,
}

/// By the number that `sse.open` names. Share it by `Arc`.
#[derive(Debug, Default)]
pub struct Passes {
    /// An entry is made with a connection, and ends with it ([`Registered`]).
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
}

/// A connection's place in the passes, given back on drop.
#[derive(Debug)]
pub(super) struct Registered {
    passes: Arc<Passes>,
    number: u64,
    pub(super) entry: Arc<Entry>,
}

impl Passes {
    pub(super) fn enter(
        self: &Arc<Self>,
        number: u64,
        terms: Terms,
        channels: Box<[Channel]>,
        wakeup: &Arc<Wakeup>,
    ) -> Registered {
        let state = Mutex::new(State { terms, renewals: 0, ends: None });
        let entry = Arc::new(Entry { channels, wakeup: wakeup.clone(), state });
        self.lock().insert(number, entry.clone());
        Registered { passes: self.clone(), number, entry }
    }

    /// Ends the streams of `user`.
    pub fn disconnect(&self, user: &str) {
        self.end(CloseReason::Disconnected, |terms| terms.user.as_deref() == Some(user));
    }

    /// Ends the streams whose token is good no longer.
    pub fn revoke(&self, revocations: &Revocations) {
        self.end(CloseReason::Revoked, |terms| terms.are_revoked(revocations));
    }

    /// Ends stream `number`, whose token was good no longer when it was renewed.
    pub fn revoke_one(&self, number: u64) {
        let Some(entry) = self.lock().get(&number).cloned() else { return };
        entry.lock().ends.get_or_insert(CloseReason::Revoked);
        entry.wakeup.call();
    }

    /// Lets stream `number` go on by `terms`, where they are of the same user and every channel it has is granted. Terms that end
    /// no later than those it has change nothing: whoever renews with the same token would be told again at once.
    pub fn renew(&self, number: u64, terms: Terms, granted: impl Fn(&Channel) -> bool) -> Renewed {
        let Some(entry) = self.lock().get(&number).cloned() else { return Renewed::NotHere };
        let mut state = entry.lock();
        if state.ends.is_some() || state.terms.user != terms.user || !entry.channels.iter().all(granted) {
            return Renewed::Refused;
        }
        if terms.expires <= state.terms.expires {
            return Renewed::Done;
        }
        (state.terms, state.renewals) = (terms, state.renewals.wrapping_add(1));
        drop(state);
        entry.wakeup.call();
        Renewed::Done
    }

    /// Streams of `user` whose channels are `such`.
    #[must_use]
    pub fn count(&self, user: &str, such: impl Fn(&[Channel]) -> bool) -> usize {
        let all: Vec<Arc<Entry>> = self.lock().values().cloned().collect();
        let of_user = |entry: &&Arc<Entry>| entry.lock().terms.user.as_deref() == Some(user) && such(&entry.channels);
        all.iter().filter(of_user).count()
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Not under the lock: a wake may drop a connection, which comes back here.
    fn end(&self, reason: CloseReason, concerned: impl Fn(&Terms) -> bool) {
        let all: Vec<Arc<Entry>> = self.lock().values().cloned().collect();
        for entry in all {
            let mut state = entry.lock();
            if concerned(&state.terms) {
                state.ends.get_or_insert(reason);
                drop(state);
                entry.wakeup.call();
            }
        }
    }

    /// Nothing under this lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    /// Whether tokens with these terms are good no longer.
    fn are_revoked(&self, revocations: &Revocations) -> bool {
        revocations.concern(self.token.as_deref(), self.user.as_deref(), self.issued)
    }
}

impl Entry {
    /// When its token ends, how often it was renewed, and why it has to end, if it has to.
    pub(super) fn look(&self) -> (SystemTime, u32, Option<CloseReason>) {
        let state = self.lock();
        (state.terms.expires, state.renewals, state.ends)
    }

    /// Nothing under this lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut entries = self.passes.lock();
        entries.remove(&self.number);
        entries.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::order::Revocation;

    use super::*;

    fn terms(user: &str, token: &str, issued: Option<u64>) -> Terms {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let text = |text: &str| Some(text.into());
        Terms { user: text(user), token: text(token), issued, expires: at(1_000) }
    }

    fn revocation(token: &str) -> Revocations {
        let mut revocations = Revocations::default();
        revocations.add(&Revocation { token: Some(token.to_owned()), user: None, at: 500, until: 1_000 });
        revocations
    }

    #[test]
    fn those_concerned_are_told_and_nobody_stays_behind() {
        let passes = Arc::new(Passes::default());
        let channels = || Box::from([Channel::parse("a").unwrap()]);
        let enter = |number, user: &str| passes.enter(number, terms(user, "j", None), channels(), &Arc::default());
        let (one, other) = (enter(1, "42"), enter(2, "43"));
        let on_a = |channels: &[Channel]| channels.iter().any(|channel| channel.as_str() == "a");
        let on = |user: &str| (passes.count(user, on_a), passes.count(user, |channels| !on_a(channels)));
        assert_eq!((on("42"), on("44")), ((1, 0), (0, 0)));
        passes.disconnect("42");
        assert_eq!((one.entry.look().2, other.entry.look().2), (Some(CloseReason::Disconnected), None));
        passes.revoke(&revocation("j"));
        assert_eq!(one.entry.look().2, Some(CloseReason::Disconnected), "the first reason stays");
        assert_eq!(other.entry.look().2, Some(CloseReason::Revoked));
        drop((one, other));
        assert!(passes.is_empty());
    }

    #[test]
    fn a_renewal_is_of_the_same_user_and_grants_all() {
        let passes = Arc::new(Passes::default());
        let (a, b) = (Channel::parse("a").unwrap(), Channel::parse("b").unwrap());
        let channels = Box::from([a.clone(), b]);
        let registered = passes.enter(7, terms("42", "j", None), channels, &Arc::default());
        let later = Terms { expires: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000), ..terms("42", "k", None) };
        assert_eq!(passes.renew(8, later.clone(), |_| true), Renewed::NotHere);
        assert_eq!(passes.renew(7, terms("43", "k", None), |_| true), Renewed::Refused);
        assert_eq!(passes.renew(7, later.clone(), |channel| *channel == a), Renewed::Refused);
        assert_eq!(registered.entry.look(), (terms("", "", None).expires, 0, None));
        assert_eq!(passes.renew(7, later.clone(), |_| true), Renewed::Done);
        assert_eq!(registered.entry.look(), (later.expires, 1, None));
        assert_eq!(passes.renew(7, terms("42", "k", None), |_| true), Renewed::Done);
        assert_eq!(registered.entry.look(), (later.expires, 1, None), "one that ends earlier changes nothing");
        passes.revoke_one(7);
        let last = Terms { expires: SystemTime::UNIX_EPOCH + Duration::from_secs(3_000), ..terms("42", "k", None) };
        assert_eq!(passes.renew(7, last, |_| true), Renewed::Refused, "it is about to end");
    }
}
