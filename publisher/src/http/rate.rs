//! How many events each key publishes in time. A key is a token's subject or the operator's key; without either the client's
//! address, and where that is not known all have one together.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Extensions, StatusCode};
use shared::auth::Access;
use shared::net::{ClientAddress, PeerAddress, Proxies};

use super::keyed::{KeyedRate, Over};
use super::problem::Problem;

/// Who asks, by the best that is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
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
    keyed: KeyedRate,
    rate: NonZeroU32,
    burst: NonZeroU32,
}

impl Key {
    /// Of a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        Self::new(extensions.get::<Access>(), extensions.get().copied())
    }

    /// Of whoever has this access and comes from there.
    #[must_use]
    pub fn new(access: Option<&Access>, address: Option<ClientAddress>) -> Self {
        match access {
            Some(Access::Token(token)) if token.subject.is_some() => {
                Self::Subject(token.subject.clone().unwrap_or_default())
            }
            Some(Access::Operator) => Self::Operator,
            Some(Access::Token(_) | Access::Open) | None => address.map_or(Self::Unknown, Self::Address),
        }
    }
}

impl Rate {
    /// `rate` events a second, `burst` at once. No rate: any number.
    pub(super) fn new(rate: u32, burst: u32) -> Option<Self> {
        let (rate, burst) = (NonZeroU32::new(rate)?, NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        Some(Self { keyed: KeyedRate::new(rate, burst), rate, burst })
    }

    /// Takes room for `events` of `key`: all or none.
    pub(super) fn take(&self, key: &Key, events: usize) -> Result<(), Problem> {
        let Some(count) = u32::try_from(events).ok().map(NonZeroU32::new) else { return Err(self.too_many(events)) };
        let Some(count) = count else { return Ok(()) };
        self.keyed.take(key, count).map_err(|over| match over {
            Over::For(wait) => self.later(wait),
            Over::Always => self.too_many(events),
        })
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
