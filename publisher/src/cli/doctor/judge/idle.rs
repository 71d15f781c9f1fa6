//! `idle`: whether a stream on which nothing happens stays open, and is not forgotten.

use std::time::Duration;

use crate::cli::doctor::checks::{Check, count, span};

const NAME: &str = "idle";
/// What came so shortly before the end was no silence.
const BUSY: Duration = Duration::from_secs(1);
/// AWS ALB, nginx and HAProxy's examples close after a minute without a byte.
const USUAL: Duration = Duration::from_secs(45);

/// A stream on which nothing was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Idle {
    /// How long it was looked at, at most.
    pub(in crate::cli::doctor) wanted: Duration,
    /// From `sse.open` to its end, or to the end of looking.
    pub(in crate::cli::doctor) lived: Duration,
    pub(in crate::cli::doctor) ended: Option<Ended>,
    /// Keep-alives that came.
    pub(in crate::cli::doctor) keep_alives: usize,
    /// Between two pieces, from `sse.open` on.
    pub(in crate::cli::doctor) longest: Duration,
    /// Whether an event that was published after the silence came; `None` where none was.
    pub(in crate::cli::doctor) after: Option<bool>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Ended {
    /// Since the last byte before it.
    pub(in crate::cli::doctor) silence: Duration,
    /// With `retry:` right before it, as a gateway ends streams.
    pub(in crate::cli::doctor) by_gateway: bool,
    /// Why, where it broke off.
    pub(in crate::cli::doctor) why: Option<String>,
}

/// What it comes to.
pub(in crate::cli::doctor) fn idle(idle: &Idle) -> Check {
    if let Some(ended) = &idle.ended {
        return end(idle, ended);
    }
    let kept = kept(idle);
    if idle.after == Some(false) {
        let measured = format!("open for {}, {kept}, and an event after that did not come", span(idle.lived));
        let meaning =
            "something forgets connections that are silent, and tells neither side: pages believe that they listen";
        return advised(Check::wrong(NAME, measured, meaning))
            .change("firewall", "idle timeouts of NAT, conntrack and NLB (350 s) above keep_alive too");
    }
    let measured = format!("open for {}, {kept}", span(idle.lived));
    if idle.keep_alives == 0 && idle.wanted < USUAL {
        let meaning = "a gateway says something every 20 s, unless keep_alive is set otherwise; look longer to see that it comes through";
        return Check::remark(NAME, measured, meaning).change("--idle", "60s");
    }
    if idle.keep_alives == 0 || idle.longest > USUAL {
        let meaning =
            "load balancers close after a minute without a byte, as AWS ALB and nginx do unless told otherwise";
        return Check::remark(NAME, measured, meaning).change("gateway", "keep_alive = \"20s\"");
    }
    Check::ok(NAME, measured)
}

fn kept(idle: &Idle) -> String {
    match idle.keep_alives {
        0 => "no keep-alive".to_owned(),
        number => format!("{}, at most {} apart", count(number, "keep-alive"), span(idle.longest)),
    }
}

fn end(idle: &Idle, ended: &Ended) -> Check {
    let Idle { lived, keep_alives, longest, .. } = idle;
    let how = ended.why.as_ref().map_or("closed".to_owned(), |why| format!("cut off ({why})"));
    if ended.by_gateway {
        let measured = format!("the gateway ended it by itself after {}, with a retry:", span(*lived));
        let meaning = "it was stopping, or its limits.max_lifetime was over; the stream was not seen idle for long enough: run this again";
        return Check::remark(NAME, measured, meaning);
    }
    if ended.silence <= BUSY && *lived > BUSY {
        let measured = format!("{how} after {}, {} after its last byte", span(*lived), span(ended.silence));
        let meaning =
            "not silence, but a limit on how long an answer may take; each time clients come back, and nothing is lost";
        return Check::wrong(NAME, measured, meaning)
            .change("GCP", "timeoutSec of the backend service (30 s by default) is for the whole answer: 86400")
            .change("AWS", "API Gateway ends everything after 29 s: an ALB is the place for streams")
            .change("Envoy", "timeout: 0s on the route (15 s by default), and stream_idle_timeout above keep_alive")
            .change("function", "serverless platforms end requests: streams belong beside them, not through them");
    }
    let gateway = if *keep_alives == 0 {
        "no keep-alive had come until then (a gateway's are 20 s apart unless keep_alive says otherwise)".to_owned()
    } else {
        format!("keep-alives are up to {} apart", span(*longest))
    };
    let measured = format!("{how} after {} of silence; {gateway}", span(ended.silence));
    let meaning = "something on the way closes what is silent sooner than the gateway says something: pages come back all the time";
    advised(Check::wrong(NAME, measured, meaning))
}

fn advised(check: Check) -> Check {
    check
        .change("nginx", "proxy_read_timeout 75s; and send_timeout 75s; in the location of the stream")
        .change("HAProxy", "timeout server 75s and timeout client 75s, or timeout tunnel where it is one")
        .change(
            "Caddy",
            "no read_timeout or write_timeout in transport http; no idle timeout below 75s in servers { timeouts }",
        )
        .change("AWS ALB", "idle_timeout.timeout_seconds 75 or more (60 by default)")
        .change("gateway", "or keep_alive below the shortest of these: half of it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::Verdict::{self, Ok, Remark, Wrong};

    const S: Duration = Duration::from_secs(1);

    fn open() -> Idle {
        Idle { wanted: 60 * S, lived: 60 * S, ended: None, keep_alives: 3, longest: 19 * S, after: Some(true) }
    }

    fn told(measured: &Idle) -> (Verdict, String) {
        let check = idle(measured);
        (check.verdict, check.measured)
    }

    #[test]
    fn it_stays() {
        assert_eq!(told(&open()), (Ok, "open for 60.0 s, 3 keep-alives, at most 19.0 s apart".to_owned()));
        let none = Idle { keep_alives: 0, longest: Duration::ZERO, ..open() };
        assert_eq!(told(&none), (Remark, "open for 60.0 s, no keep-alive".to_owned()));
        let short = Idle { wanted: 8 * S, lived: 8 * S, keep_alives: 0, ..open() };
        assert_eq!(told(&short), (Remark, "open for 8.0 s, no keep-alive".to_owned()));
        assert_eq!(idle(&short).change[0].at, "--idle");
        let rare = Idle { wanted: 200 * S, lived: 200 * S, longest: 100 * S, ..open() };
        assert_eq!(told(&rare).0, Remark);
    }

    #[test]
    fn it_is_closed() {
        let ended =
            |silence, by_gateway, why: Option<&str>| Some(Ended { silence, by_gateway, why: why.map(str::to_owned) });
        let silent =
            Idle { lived: 5 * S, ended: ended(5 * S, false, Some("unexpected EOF")), keep_alives: 0, ..open() };
        let wanted = "cut off (unexpected EOF) after 5.0 s of silence; no keep-alive had come until then (a gateway's are 20 s apart \
                      unless keep_alive says otherwise)";
        assert_eq!(told(&silent), (Wrong, wanted.to_owned()));
        let between = Idle { lived: 40 * S, ended: ended(15 * S, false, None), ..open() };
        assert_eq!(
            told(&between),
            (Wrong, "closed after 15.0 s of silence; keep-alives are up to 19.0 s apart".to_owned())
        );
        let limit = Idle { lived: 30 * S, ended: ended(S / 2, false, None), ..open() };
        assert_eq!(told(&limit), (Wrong, "closed after 30.0 s, 500 ms after its last byte".to_owned()));
        assert_eq!(idle(&limit).change[0].at, "GCP");
        let gateway = Idle { lived: 30 * S, ended: ended(S / 2, true, None), ..open() };
        assert_eq!(told(&gateway), (Remark, "the gateway ended it by itself after 30.0 s, with a retry:".to_owned()));
    }

    #[test]
    fn it_is_forgotten() {
        let wanted = "open for 60.0 s, no keep-alive, and an event after that did not come";
        assert_eq!(told(&Idle { keep_alives: 0, after: Some(false), ..open() }), (Wrong, wanted.to_owned()));
    }
}
