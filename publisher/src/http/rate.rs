//! How many events each key publishes in time. A key is a token's subject or the operator's key; without either the client's
//! address, and where that is not known all have one together.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{Extensions, StatusCode};
use shared::auth::Access;
use shared::net::{ClientAddress, PeerAddress, Proxies};

use super::problem::Problem;

/// Keys are counted in so many places, each key in one that is chosen at random: however many there are, no more is held than
/// some MiB, and those who share a place are few.
const PLACES: u64 = 1 << 17;
/// After so many requests, places of those who have been quiet are given back.
const TIDY: u32 = 1 << 14;

/// Who publishes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// By a token.
    Subject(String),
    /// By the operator's key.
    Operator,
    /// By nothing but where it comes from.
    Address(ClientAddress),
    /// Whoever mounted the routes says nothing of that.
    Unknown,
}

/// The rate that each key has.
pub(super) struct Rate {
    limiter: RateLimiter<u32, HashMapStateStore<u32>, DefaultClock>,
    hasher: RandomState,
    rate: NonZeroU32,
    burst: NonZeroU32,
    /// Requests since places were last given back.
    asked: AtomicU32,
}

impl Key {
    pub(super) fn of(extensions: &Extensions) -> Self {
        match extensions.get::<Access>() {
            Some(Access::Token(token)) if token.subject.is_some() => {
                Self::Subject(token.subject.clone().unwrap_or_default())
            }
            Some(Access::Operator) => Self::Operator,
            Some(Access::Token(_) | Access::Open) | None => {
                extensions.get().copied().map_or(Self::Unknown, Self::Address)
            }
        }
    }
}

impl Rate {
    /// `rate` events a second, `burst` at once. No rate: any number.
    pub(super) fn new(rate: u32, burst: u32) -> Option<Self> {
        let (rate, burst) = (NonZeroU32::new(rate)?, NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        let quota = Quota::per_second(rate).allow_burst(burst);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            hasher: RandomState::new(),
            rate,
            burst,
            asked: AtomicU32::new(0),
        })
    }

    /// Takes room for `events` of `key`: all or none.
    pub(super) fn take(&self, key: &Key, events: usize) -> Result<(), Problem> {
        let Some(count) = u32::try_from(events).ok().map(NonZeroU32::new) else { return Err(self.too_many(events)) };
        let Some(count) = count else { return Ok(()) };
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let place = u32::try_from(self.hasher.hash_one(key) % PLACES).unwrap_or_default();
        match self.limiter.check_key_n(&place, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(self.later(later.wait_time_from(self.limiter.clock().now()))),
            Err(_) => Err(self.too_many(events)),
        }
    }

    fn later(&self, wait: Duration) -> Problem {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-events", "too many events")
            .detail(format!("more than {} events a second; nothing of this request was published", self.rate))
            .limit(u64::from(self.rate.get()))
            .retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    fn too_many(&self, events: usize) -> Problem {
        let burst = self.burst.get();
        Problem::too_large("body", burst as usize, "events")
            .detail(format!("{events} events, one for each channel, are more than may be published at once, {burst}"))
    }
}

/// Middleware that tells the routes from which client a request comes, for `from_fn_with_state(proxies, tell_client)`. Needs a
/// [`PeerAddress`].
pub async fn tell_client(State(proxies): State<Arc<Proxies>>, mut request: Request, next: Next) -> Response {
    if let Some(PeerAddress(peer)) = request.extensions().get().copied() {
        let client = proxies.client(peer, request.headers());
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::response::IntoResponse as _;
    use http::header::RETRY_AFTER;

    use super::*;

    fn subject(name: &str) -> Key {
        Key::Subject(name.to_owned())
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result.map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    #[test]
    fn each_key_has_its_own_and_all_of_a_request_counts() {
        let rate = Rate::new(1, 10).unwrap();
        assert_eq!(status(rate.take(&subject("a"), 6)), 200);
        assert_eq!(status(rate.take(&subject("a"), 6)), 429, "all or none");
        assert_eq!(status(rate.take(&subject("a"), 4)), 200);
        assert_eq!(status(rate.take(&subject("a"), 1)), 429);
        assert_eq!(status(rate.take(&subject("b"), 10)), 200);
        assert_eq!(status(rate.take(&Key::Operator, 10)), 200);
        assert_eq!(status(rate.take(&subject("a"), 0)), 200, "what was wrong in all its lines");
    }

    #[test]
    fn what_can_never_be_published_is_told_so() {
        let rate = Rate::new(1_000, 10).unwrap();
        for events in [11, usize::MAX] {
            let problem = rate.take(&subject("a"), events).unwrap_err();
            assert_eq!(problem.status(), 413);
            let text = serde_json::to_string(&problem).unwrap();
            assert!(text.contains("may be published at once, 10\"") && text.ends_with(r#""limit":10}"#), "{text}");
        }
        assert!(Rate::new(0, 10).is_none());
    }

    #[test]
    fn it_says_when_to_come_back() {
        let rate = Rate::new(1, 10).unwrap();
        rate.take(&subject("a"), 10).unwrap();
        let problem = rate.take(&subject("a"), 10).unwrap_err();
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:problem:sse:too-many-events","title":"too many events","status":429,"detail":"more than 1 events a second; nothing of this request was published","limit":1}"#
        );
        let response = problem.into_response();
        let seconds: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds), "{seconds}");
    }

    /// Of this process, in KiB.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn a_flood_of_keys_fills_its_places_and_nothing_of_them_is_kept() {
        // None is quiet again while it lasts, so no place is given back.
        let rate = Rate::new(1, 1_000_000).unwrap();
        let (name, before) = ("x".repeat(1_024), resident());
        let mut most = before;
        for number in 0..600_000_u32 {
            let _ = rate.take(&Key::Subject(format!("{number}{name}")), 100);
            if number % 100_000 == 0 {
                most = most.max(resident());
            }
        }
        most = most.max(resident());
        // 600 MiB of names. Other tests run meanwhile.
        assert!(most < before + (200 << 10), "{before} KiB became {most} KiB");
        let taken = rate.limiter.len() as u64;
        assert!((PLACES * 9 / 10..=PLACES).contains(&taken), "they share {taken} places");
    }

    #[test]
    fn places_of_the_quiet_are_given_back() {
        let rate = Rate::new(1_000_000, 1).unwrap();
        for number in 0..3 * TIDY {
            let _ = rate.take(&Key::Address(IpAddr::V4(number.into()).into()), 1);
        }
        assert!(rate.limiter.len() < 3 * TIDY as usize / 2, "{}", rate.limiter.len());
    }

    #[test]
    fn a_key_is_the_best_that_is_known() {
        let mut extensions = Extensions::new();
        assert_eq!(Key::of(&extensions), Key::Unknown);
        let address = ClientAddress::from("203.0.113.1".parse::<IpAddr>().unwrap());
        extensions.insert(address);
        extensions.insert(Access::Open);
        assert_eq!(Key::of(&extensions), Key::Address(address));
        extensions.insert(Access::Operator);
        assert_eq!(Key::of(&extensions), Key::Operator);
    }
}
