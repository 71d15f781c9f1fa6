//! `nodes`: whether every gateway behind the address takes streams, and hears what is published.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::cli::doctor::checks::{Check, count, span};

const NAME: &str = "nodes";

/// What became of one stream through the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::doctor) enum Outcome {
    /// It was opened, and an event came.
    Heard { node: String, event: Duration },
    /// It was opened; nothing could be published.
    Opened { node: String },
    /// It was opened, and an event that was published did not come.
    Deaf { node: String, receivers: u64 },
    /// A gateway had it, and its first bytes did not come.
    Held,
    /// Nothing came, and as far as is known no gateway had it.
    Silent,
    /// 200, `retry:` and the end: nobody can take it now.
    ComeBack,
    /// No event stream. `said` is the begin of the answer.
    Refused { status: StatusCode, headers: HeaderMap, said: String },
    /// There was no connection, or it broke off.
    Failed(String),
}

/// A gateway that was asked by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Direct {
    /// `host:port`.
    pub(in crate::cli::doctor) server: String,
    pub(in crate::cli::doctor) state: State,
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::doctor) enum State {
    /// `/readyz` 200; or a public port, which answers anything.
    Ready,
    /// `/readyz` 503, and why.
    NotReady(String),
    Unreachable(String),
}

impl Outcome {
    /// Whether it says something of the address rather than of one node: a status that is final for this request.
    pub(in crate::cli::doctor) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if !is_away(*status))
    }

    /// Whether it shows that streams can be had at all.
    pub(in crate::cli::doctor) fn is_sound(&self) -> bool {
        matches!(self, Self::Heard { .. } | Self::Opened { .. })
    }

    /// How it failed; `None` where it did not.
    fn failure(&self) -> Option<String> {
        Some(match self {
            Self::Heard { .. } | Self::Opened { .. } => return None,
            Self::Deaf { node, receivers: 0 } => {
                format!("opened on {node}, and an event did not come: it does not listen to this Redis")
            }
            Self::Deaf { node, .. } => format!("opened on {node}, and an event did not come within 5 s"),
            Self::Held => "had by a gateway, and nothing of it came".to_owned(),
            Self::Silent => "no answer within 10 s".to_owned(),
            Self::ComeBack => "answered with retry: and an end, as if no gateway were there".to_owned(),
            Self::Refused { status, .. } => status.to_string(),
            Self::Failed(why) => why.clone(),
        })
    }
}

/// What proxies say of a server that is away.
fn is_away(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504 | 521..=524)
}

/// What they come to. `held_back`: something on the way collects answers, which says nothing of nodes.
pub(in crate::cli::doctor) fn nodes(outcomes: &[Outcome], directs: &[Direct], held_back: bool) -> Check {
    let dead: Vec<String> = directs.iter().filter_map(dead).collect();
    let sound = outcomes.iter().filter(|outcome| outcome.is_sound()).count();
    if held_back && sound == 0 && dead.is_empty() {
        return Check::not_checked(NAME, "no stream's begin came through: see buffering");
    }
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for failure in outcomes.iter().filter_map(Outcome::failure) {
        *failures.entry(failure).or_default() += 1;
    }
    let mut told: Vec<String> = failures.iter().map(|(failure, number)| format!("{number} {failure}")).collect();
    told.extend(dead);
    let mut measured = format!("{sound} of {}", count(outcomes.len(), "stream"));
    let heard = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Heard { .. }));
    measured.push_str(if heard { " opened and heard an event" } else { " opened" });
    if sound > 0 {
        measured.push_str(&format!(": {}", names(outcomes)));
    }
    if told.is_empty() {
        return Check::ok(NAME, measured + &slowest(outcomes));
    }
    let measured = format!("{measured}; {}", told.join("; "));
    advised(Check::wrong(NAME, measured, meaning(outcomes, sound)), outcomes)
}

fn dead(direct: &Direct) -> Option<String> {
    let Direct { server, state } = direct;
    match state {
        State::Ready => None,
        State::NotReady(why) => Some(format!("the gateway at {server} is not ready: {why}")),
        State::Unreachable(why) => Some(format!("the gateway at {server} does not answer: {why}")),
    }
}

/// `node-1 (4), node-2 (4)`.
fn names(outcomes: &[Outcome]) -> String {
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in outcomes {
        if let Outcome::Heard { node, .. } | Outcome::Opened { node } = outcome {
            *nodes.entry(node).or_default() += 1;
        }
    }
    nodes.iter().map(|(node, number)| format!("{node} ({number})")).collect::<Vec<_>>().join(", ")
}

fn slowest(outcomes: &[Outcome]) -> String {
    let event = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Heard { event, .. } => Some(*event),
        _ => None,
    });
    event.max().map_or(String::new(), |event| format!(", within {}", span(event)))
}

fn meaning(outcomes: &[Outcome], sound: usize) -> &'static str {
    let has = |is: fn(&Outcome) -> bool| outcomes.iter().any(is);
    let other_redis = |outcome: &Outcome| matches!(outcome, Outcome::Deaf { receivers: 0, .. });
    if sound == 0 && !outcomes.is_empty() && outcomes.iter().all(other_redis) {
        return "no node hears what is published: --redis-url or --publish-url is of another cluster than --url, or none of them hears Redis";
    }
    if has(|outcome| matches!(outcome, Outcome::Deaf { .. })) {
        return "a node takes streams and does not hear what is published: its pages stay silent, and nothing tells them";
    }
    if sound == 0 && !outcomes.is_empty() {
        return "no stream can be had: no gateway is there for the load balancer, or none that takes streams";
    }
    "a gateway is dead, and is still sent streams: an EventSource gives up for good on 502, 503 and 504, and hangs where nothing comes"
}

fn advised(check: Check, outcomes: &[Outcome]) -> Check {
    let check = if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Deaf { .. })) {
        check.change("gateway", "redis.url and redis.prefix the same on every node and on the publisher; /readyz and sse_gateway_probe_age_seconds tell of one that is deaf")
    } else {
        check
    };
    check
        .change("gateway", "which one is it? GET /readyz on the operator port of each, or --gateways here")
        .change("nginx", "proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent; and proxy_connect_timeout 2s;")
        .change("nginx", "error_page 502 503 504 = @come_back; which says 200, text/event-stream and retry:, for when no node is there")
        .change("HAProxy", "option httpchk GET /readyz with check port 9090 on each server, option redispatch, retry-on conn-failure empty-response 502 503 504")
        .change("Caddy", "health_uri /readyz and health_port 9090, lb_try_duration 5s")
        .change("AWS ALB", "health check path /readyz on the operator's port, two of them 5 s apart")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::Verdict::{self, NotChecked, Ok, Wrong};

    fn heard(node: &str) -> Outcome {
        Outcome::Heard { node: node.to_owned(), event: Duration::from_millis(3) }
    }

    fn status(status: u16) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        Outcome::Refused { status, headers: HeaderMap::new(), said: String::new() }
    }

    fn told(outcomes: &[Outcome], directs: &[Direct]) -> (Verdict, String) {
        let check = nodes(outcomes, directs, false);
        (check.verdict, check.measured)
    }

    #[test]
    fn all_there() {
        let wanted = "3 of 3 streams opened and heard an event: a (2), b (1), within 3.0 ms";
        assert_eq!(told(&[heard("a"), heard("b"), heard("a")], &[]), (Ok, wanted.to_owned()));
        let opened = Outcome::Opened { node: "a".to_owned() };
        assert_eq!(told(&[opened], &[]), (Ok, "1 of 1 stream opened: a (1)".to_owned()));
    }

    #[test]
    fn one_is_dead() {
        for (failed, wanted) in [
            (status(502), "502 Bad Gateway"),
            (Outcome::Silent, "no answer within 10 s"),
            (Outcome::ComeBack, "answered with retry: and an end, as if no gateway were there"),
            (Outcome::Failed("the connection is refused".to_owned()), "the connection is refused"),
            (Outcome::Held, "had by a gateway, and nothing of it came"),
        ] {
            let wanted = format!("1 of 3 streams opened and heard an event: a (1); 2 {wanted}");
            assert_eq!(told(&[failed.clone(), heard("a"), failed], &[]), (Wrong, wanted));
        }
        let direct = |state| Direct { server: "b:9090".to_owned(), state };
        let wanted = "1 of 1 stream opened and heard an event: a (1); the gateway at b:9090 does not answer: refused";
        assert_eq!(
            told(&[heard("a")], &[direct(State::Unreachable("refused".to_owned()))]),
            (Wrong, wanted.to_owned())
        );
        let wanted = "1 of 1 stream opened and heard an event: a (1); the gateway at b:9090 is not ready: draining";
        assert_eq!(told(&[heard("a")], &[direct(State::NotReady("draining".to_owned()))]), (Wrong, wanted.to_owned()));
        assert_eq!(told(&[heard("a")], &[direct(State::Ready)]).0, Ok);
    }

    #[test]
    fn one_is_deaf() {
        let deaf = |receivers| Outcome::Deaf { node: "b".to_owned(), receivers };
        let wanted = "1 of 2 streams opened and heard an event: a (1); 1 opened on b, and an event did not come: it does not listen to this Redis";
        assert_eq!(told(&[heard("a"), deaf(0)], &[]), (Wrong, wanted.to_owned()));
        assert!(nodes(&[deaf(0), deaf(0)], &[], false).meaning.starts_with("no node hears what is published"));
        assert!(nodes(&[deaf(1), heard("a")], &[], false).meaning.starts_with("a node takes streams"));
        assert_eq!(nodes(&[deaf(1)], &[], false).change[0].at, "gateway");
    }

    #[test]
    fn what_is_held_back_says_nothing_of_nodes() {
        let check = nodes(&[Outcome::Held, Outcome::Held], &[], true);
        assert_eq!((check.verdict, &*check.measured), (NotChecked, "no stream's begin came through: see buffering"));
        assert_eq!(nodes(&[Outcome::Held, heard("a")], &[], true).verdict, Wrong);
    }

    #[test]
    fn final_answers_are_about_the_address() {
        assert!(status(404).is_refusal() && status(302).is_refusal() && status(200).is_refusal());
        assert!(!status(502).is_refusal() && !Outcome::Silent.is_refusal() && !heard("a").is_refusal());
    }
}
