//! `resume`: whether a client that comes back is given what it missed.

use crate::cli::doctor::checks::{Check, count};

const NAME: &str = "resume";

/// A stream that was left, and asked for again with the `Last-Event-ID` of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::doctor) struct Resumed {
    /// Numbers of what was published after that id, in order; the last of them when the client was back.
    pub(in crate::cli::doctor) published: Vec<u64>,
    /// Numbers of what came, in order.
    pub(in crate::cli::doctor) heard: Vec<u64>,
    /// Reasons of `sse.gap`.
    pub(in crate::cli::doctor) gaps: Vec<String>,
}

/// What it comes to.
pub(in crate::cli::doctor) fn resume(resumed: &Resumed) -> Check {
    let Resumed { published, heard, gaps } = resumed;
    let away = published.len().saturating_sub(1);
    if let Some(reason) = gaps.first() {
        let check = Check::wrong(
            NAME,
            format!("sse.gap with the reason {reason}, seconds after the event"),
            match &**reason {
                "data_lost" => {
                    "the node that took the client back has other data: another Redis, or one that was replaced meanwhile"
                }
                "unknown_cursor" => "the id did not come through as it was sent",
                _ => "what was missed is already gone",
            },
        );
        return match &**reason {
            "data_lost" => check
                .change("gateway", "redis.url: the same server for every node; a replica or a second primary is not"),
            "unknown_cursor" => check.change("proxy", "no rewriting of the header Last-Event-ID, or of id: in answers"),
            _ => check.change("publisher", "history and ttl in [[channels]] for this channel"),
        };
    }
    if heard == published {
        return Check::ok(NAME, format!("{} missed and one more came, once each and in order", count(away, "event")));
    }
    let last = published.last().map(std::slice::from_ref).unwrap_or_default();
    if heard == last {
        let measured = format!("none of {} that were missed came", count(away, "event"));
        let meaning = "the gateway took the client for a new one: its Last-Event-ID did not arrive. Whatever happens while a page comes back is lost";
        return Check::wrong(NAME, measured, meaning)
            .change("nginx", "proxy_pass_request_headers on; and no proxy_set_header Last-Event-ID")
            .change(
                "CDN",
                "Last-Event-ID among the headers that go to the origin (CloudFront: an origin request policy)",
            );
    }
    let numbers = |list: &[u64]| list.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let measured = format!(
        "published {}, and {} came",
        numbers(published),
        if heard.is_empty() { "nothing".to_owned() } else { numbers(heard) }
    );
    Check::wrong(NAME, measured, "events were lost, repeated or out of order on the way back, and no gap was told")
        .change("gateway", "look at its log, and at sse_gateway_gaps_total")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::Verdict;

    fn told(heard: &[u64], gaps: &[&str]) -> (Verdict, String) {
        let gaps = gaps.iter().map(ToString::to_string).collect();
        let check = resume(&Resumed { published: vec![7, 8, 9, 10], heard: heard.to_vec(), gaps });
        (check.verdict, check.measured)
    }

    #[test]
    fn all_there() {
        assert_eq!(
            told(&[7, 8, 9, 10], &[]),
            (Verdict::Ok, "3 events missed and one more came, once each and in order".to_owned())
        );
    }

    #[test]
    fn not_all_there() {
        for (heard, gaps, wanted) in [
            (&[10][..], &[][..], "none of 3 events that were missed came"),
            (&[7, 9, 10], &[], "published 7 8 9 10, and 7 9 10 came"),
            (&[7, 7, 8, 9, 10], &[], "published 7 8 9 10, and 7 7 8 9 10 came"),
            (&[], &[], "published 7 8 9 10, and nothing came"),
            (&[10], &["data_lost"], "sse.gap with the reason data_lost, seconds after the event"),
        ] {
            assert_eq!(told(heard, gaps), (Verdict::Wrong, wanted.to_owned()));
        }
    }
}
