//! `buffering`: whether events arrive one by one as they are published.

use std::time::Duration;

use crate::cli::doctor::checks::{Check, count, span};

const NAME: &str = "buffering";
/// Arrivals so close together are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// So many events in one arrival, each published well after the one before it, are no accident.
const LUMP: usize = 3;
/// Longer than any network, and than a gateway that is well.
const SLOW: Duration = Duration::from_secs(1);

/// One event, both on one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Timing {
    pub(in crate::cli::doctor) published: Duration,
    pub(in crate::cli::doctor) arrived: Option<Duration>,
}

/// What was published behind events that did not come, to push them out of whatever holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Flood {
    pub(in crate::cli::doctor) bytes: usize,
    /// How many of the missing came then.
    pub(in crate::cli::doctor) brought: usize,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Events {
    /// Each published the same time apart; a second round only where the first was in doubt.
    pub(in crate::cli::doctor) rounds: Vec<Vec<Timing>>,
    pub(in crate::cli::doctor) flood: Option<Flood>,
    /// Gateways that had somebody on the channel, at most.
    pub(in crate::cli::doctor) receivers: u64,
    /// Whether `X-Accel-Buffering` arrived here.
    pub(in crate::cli::doctor) accel: bool,
}

/// The most events of a round that arrived as one.
fn lump(round: &[Timing]) -> usize {
    let mut arrivals: Vec<Duration> = round.iter().filter_map(|timing| timing.arrived).collect();
    arrivals.sort_unstable();
    let together =
        |first: &Duration| arrivals.iter().filter(|other| **other >= *first && **other - *first <= TOGETHER).count();
    arrivals.iter().map(together).max().unwrap_or(0)
}

/// Whether a round gives reason for another one.
pub(in crate::cli::doctor) fn is_doubtful(round: &[Timing]) -> bool {
    lump(round) >= LUMP || round.iter().any(|timing| delay(timing).is_none_or(|delay| delay > SLOW))
}

fn delay(timing: &Timing) -> Option<Duration> {
    Some(timing.arrived?.saturating_sub(timing.published))
}

fn missing(events: &Events) -> usize {
    events.rounds.iter().flatten().filter(|timing| timing.arrived.is_none()).count()
}

/// What they come to.
pub(in crate::cli::doctor) fn events(events: &Events) -> Check {
    let Some(last) = events.rounds.last().filter(|round| !round.is_empty()) else {
        return Check::not_checked(NAME, "nothing could be published");
    };
    let all = events.rounds.iter().map(Vec::len).sum();
    let lost = missing(events);
    if lost > 0 {
        return held(events, all, lost);
    }
    if events.rounds.iter().all(|round| lump(round) >= LUMP) {
        let (published, first) =
            (last.last().map_or(Duration::ZERO, |t| t.published) - last[0].published, slowest(last));
        let measured = format!(
            "{} of {} published over {} arrived within {} of each other, up to {} late",
            lump(last),
            count(last.len(), "event"),
            span(published),
            span(TOGETHER),
            span(first)
        );
        return advised(
            Check::wrong(NAME, measured, "something on the way collects the answer before it passes it on"),
            events,
        );
    }
    let best = events.rounds.iter().map(|round| slowest(round)).min().unwrap_or_default();
    let measured = format!("{}, each {} after it was published at the latest", count(last.len(), "event"), span(best));
    if best > SLOW {
        let meaning =
            "each event is late, and they do not come together: no buffer, but a way or a gateway that is slow";
        return Check::remark(NAME, measured, meaning)
            .change("gateway", "look at sse_gateway_publish_to_socket_seconds and at the load of its machine")
            .change("network", "where the gateway is near: the time to connect in `address` says how far it is");
    }
    Check::ok(NAME, measured)
}

fn slowest(round: &[Timing]) -> Duration {
    round.iter().filter_map(delay).max().unwrap_or_default()
}

/// Of events that had not come when nothing more could be expected.
fn held(events: &Events, all: usize, lost: usize) -> Check {
    let what = format!("{lost} of {} did not come by themselves", count(all, "event"));
    let Some(flood) = events.flood else {
        return Check::not_checked(NAME, format!("{what}, and no gateway says that it had the stream: see nodes"));
    };
    let behind = format!("with {} KiB more behind them", flood.bytes / 1024);
    if flood.brought > 0 {
        let measured = format!("{what}; {behind} {} came", flood.brought);
        let meaning =
            "something on the way collects the answer until it has a buffer full of it: pages see nothing for minutes";
        return advised(Check::wrong(NAME, measured, meaning), events);
    }
    let measured = format!("{what}, nor {behind}, though {} had the stream", gateways(events.receivers));
    let meaning = "something on the way keeps the answer until it ends, which a stream never does; or loses it";
    advised(Check::wrong(NAME, measured, meaning), events)
        .change("AWS", "API Gateway and Lambda answer whole: an ALB or NLB is the place for streams")
}

fn gateways(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "gateway")
}

fn advised(check: Check, events: &Events) -> Check {
    let nginx = "proxy_buffering off; in the location of the stream, and no proxy_ignore_headers X-Accel-Buffering";
    let nginx = if events.accel {
        format!("{nginx} (the header came through, so an nginx that heeds it is not what collects)")
    } else {
        nginx.to_owned()
    };
    check
        .change("nginx", nginx)
        .change(
            "HAProxy",
            "option http-no-delay; no filter that looks at answers (compression, cache, Lua) for this path",
        )
        .change("Caddy", "flush_interval -1 in reverse_proxy, where the answer is not taken for a stream")
        .change("Apache", "ProxyPass ... flushpackets=on, and no mod_deflate for it")
        .change(
            "Azure",
            "Application Gateway: response buffering off; Cloudflare and AWS ALB collect no text/event-stream",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::Verdict;

    /// Published 300 ms apart, with these delays.
    fn round(delays: &[Option<u64>]) -> Vec<Timing> {
        let timing = |(place, delay): (usize, &Option<u64>)| {
            let published = Duration::from_millis(300 * place as u64);
            Timing { published, arrived: delay.map(|delay| published + Duration::from_millis(delay)) }
        };
        delays.iter().enumerate().map(timing).collect()
    }

    fn judged(rounds: Vec<Vec<Timing>>, flood: Option<Flood>) -> (Verdict, String) {
        let check = events(&Events { rounds, flood, receivers: 1, accel: false });
        (check.verdict, check.measured)
    }

    const PROMPT: [Option<u64>; 6] = [Some(3), Some(2), Some(9), Some(1), Some(2), Some(2)];
    const LUMPED: [Option<u64>; 6] = [Some(1_500), Some(1_200), Some(900), Some(600), Some(300), Some(0)];

    #[test]
    fn one_by_one() {
        let wanted = "6 events, each 9.0 ms after it was published at the latest";
        assert_eq!(judged(vec![round(&PROMPT)], None), (Verdict::Ok, wanted.to_owned()));
        assert!(!is_doubtful(&round(&PROMPT)) && is_doubtful(&round(&LUMPED)) && is_doubtful(&round(&[None])));
        // A machine that stood still for a moment is no proxy.
        assert_eq!(judged(vec![round(&LUMPED), round(&PROMPT)], None).0, Verdict::Ok);
    }

    #[test]
    fn together() {
        let wanted = "6 of 6 events published over 1.5 s arrived within 50 ms of each other, up to 1.5 s late";
        assert_eq!(judged(vec![round(&LUMPED); 2], None), (Verdict::Wrong, wanted.to_owned()));
        // Passed on each second.
        let each_second = [Some(600), Some(300), Some(0), Some(600), Some(300), Some(0)];
        assert_eq!(judged(vec![round(&each_second); 2], None).0, Verdict::Wrong);
        let check = events(&Events { rounds: vec![round(&LUMPED); 2], accel: true, ..Events::default() });
        assert!(check.change[0].what.ends_with("is not what collects)"), "{check:?}");
    }

    #[test]
    fn late_and_not_together() {
        let wanted = "6 events, each 1.2 s after it was published at the latest";
        assert_eq!(judged(vec![round(&[Some(1_200); 6]); 2], None), (Verdict::Remark, wanted.to_owned()));
    }

    #[test]
    fn held_back() {
        let rounds = || vec![round(&[None; 6]); 2];
        let flood = |brought| Some(Flood { bytes: 512 << 10, brought });
        let wanted = "12 of 12 events did not come by themselves; with 512 KiB more behind them 12 came";
        assert_eq!(judged(rounds(), flood(12)), (Verdict::Wrong, wanted.to_owned()));
        let wanted = "12 of 12 events did not come by themselves, nor with 512 KiB more behind them, though 1 gateway had the stream";
        assert_eq!(judged(rounds(), flood(0)), (Verdict::Wrong, wanted.to_owned()));
        let wanted =
            "12 of 12 events did not come by themselves, and no gateway says that it had the stream: see nodes";
        assert_eq!(judged(rounds(), None), (Verdict::NotChecked, wanted.to_owned()));
        assert_eq!(judged(Vec::new(), None), (Verdict::NotChecked, "nothing could be published".to_owned()));
    }
}
