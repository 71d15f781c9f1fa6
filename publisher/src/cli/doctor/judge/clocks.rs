//! `clocks`: whether all of them say the same, and which do not.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;

use crate::cli::doctor::checks::{Check, span};

const NAME: &str = "clocks";
/// Clocks that are kept by NTP differ by milliseconds; a second is lost where nobody means it.
const TOLERANCE: f64 = 2.0;
/// Positions go on from the highest there was, so they are ahead where a clock went back. From an hour on, resumed streams are
/// told of gaps that are none.
const MUCH: f64 = 3_600.0;

/// A clock that was read.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli::doctor) struct Clock {
    /// Whose.
    pub(in crate::cli::doctor) name: String,
    /// Seconds ahead of this machine's.
    pub(in crate::cli::doctor) ahead: f64,
    /// Seconds that it may be off by, either way.
    pub(in crate::cli::doctor) within: f64,
}

/// What was read, but for this machine's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli::doctor) struct Clocks {
    pub(in crate::cli::doctor) read: Vec<Clock>,
    /// From the position of an event that was published.
    pub(in crate::cli::doctor) positions: Option<Clock>,
}

impl Clock {
    /// One that said `there` at some time between `begin` and `end`; one without fractions is up to `step` further.
    pub(in crate::cli::doctor) fn read(
        name: &str,
        there: SystemTime,
        [begin, end]: [SystemTime; 2],
        step: f64,
    ) -> Self {
        let since_1970 =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let [there, begin, end] = [there, begin, end].map(since_1970);
        let ahead = there + step / 2.0 - f64::midpoint(begin, end);
        Self { name: name.to_owned(), ahead, within: ((end - begin).max(0.0) + step) / 2.0 }
    }

    /// What the `Date` of an answer says that was asked for and came between these.
    pub(in crate::cli::doctor) fn of_head(name: &str, headers: &HeaderMap, between: [SystemTime; 2]) -> Option<Self> {
        let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        Some(Self::read(name, date, between, 1.0))
    }

    /// How much it is ahead of `other` for certain.
    fn beyond(&self, other: &Self) -> f64 {
        ((self.ahead - other.ahead).abs() - self.within - other.within).max(0.0)
    }

    fn agrees(&self, other: &Self) -> bool {
        self.beyond(other) <= TOLERANCE
    }
}

/// What they come to.
pub(in crate::cli::doctor) fn clocks(clocks: &Clocks) -> Check {
    let here = Clock { name: "this machine".to_owned(), ahead: 0.0, within: 0.0 };
    let redis = clocks.read.iter().find(|clock| clock.name == "Redis");
    let mut all = vec![&here];
    all.extend(&clocks.read);
    // What positions tell of is Redis' own clock: they stand for it where it could not be asked.
    all.extend(clocks.positions.as_ref().filter(|_| redis.is_none()));
    if all.len() == 1 {
        return Check::not_checked(NAME, "no other clock could be read");
    }
    let agreeing = |clock: &Clock| all.iter().filter(|other| clock.agrees(other)).count();
    // The one that most agree with; of several, the first that is not this machine.
    let reference =
        all[1..].iter().chain(&all[..1]).copied().reduce(|a, b| if agreeing(b) > agreeing(a) { b } else { a });
    let Some(reference) = reference else { return Check::not_checked(NAME, "no other clock could be read") };
    let off: Vec<&Clock> = all.iter().copied().filter(|clock| !clock.agrees(reference)).collect();
    if off.is_empty() {
        return positions(clocks, redis).unwrap_or_else(|| Check::ok(NAME, in_step(&all)));
    }
    let told: Vec<String> = off.iter().map(|clock| differs(clock, reference, agreeing(reference) - 1)).collect();
    let measured = told.join("; ");
    if off.len() == 1 && std::ptr::eq(off[0], &here) && all.len() > 2 {
        return set_it(Check::remark(
            NAME,
            measured,
            "the servers agree among themselves: it is this machine's clock that is wrong",
        ));
    }
    let meaning = if all.len() == 2 {
        "one of the two is wrong; --gateways and --redis-url show more clocks"
    } else {
        "tokens are refused too early or taken too long, histories expire at another time than is meant, and times in logs do not fit"
    };
    set_it(Check::wrong(NAME, measured, meaning))
}

/// Positions that are far ahead of the clock they come from.
fn positions(clocks: &Clocks, redis: Option<&Clock>) -> Option<Check> {
    let (positions, redis) = (clocks.positions.as_ref()?, redis?);
    if positions.agrees(redis) || positions.ahead < redis.ahead {
        return None;
    }
    let measured = differs(&Clock { name: "the time in events' ids".to_owned(), ..positions.clone() }, redis, 0);
    let meaning =
        "the clock of Redis was ahead once, and ids only go forward; it is as far behind them until it has caught up";
    let ahead = positions.ahead - redis.ahead;
    Some(if ahead < MUCH {
        Check::remark(NAME, measured, meaning)
    } else {
        Check::wrong(
            NAME,
            measured,
            format!("{meaning}. From an hour on streams that come back are told of gaps that are none"),
        )
        .change("Redis", "wait until its clock is there; or, where all history may go, start it anew with empty data")
    })
}

fn in_step(all: &[&Clock]) -> String {
    let beyond = all.iter().flat_map(|one| all.iter().map(|other| one.beyond(other))).fold(0.0, f64::max);
    let names: Vec<&str> = all.iter().map(|clock| &*clock.name).collect();
    let apart = if beyond < 0.05 { "no difference".to_owned() } else { format!("{} apart", seconds(beyond)) };
    format!("{apart} between {}", names.join(", "))
}

fn differs(clock: &Clock, reference: &Clock, others: usize) -> String {
    let difference = clock.ahead - reference.ahead;
    let way = if difference > 0.0 { "ahead of" } else { "behind" };
    let others = match others {
        0 => String::new(),
        1 => " and another one".to_owned(),
        more => format!(" and {more} others"),
    };
    format!("{} is {} {way} {}{others}", clock.name, seconds(difference.abs()), reference.name)
}

fn seconds(time: f64) -> String {
    // What a date tells has no fractions.
    let time = if time >= 10.0 { time.round() } else { time };
    let time = Duration::try_from_secs_f64(time).unwrap_or_default();
    if time.as_secs() >= 10 { humantime::format_duration(time).to_string() } else { span(time) }
}

fn set_it(check: Check) -> Check {
    check
        .change(
            "machine",
            "chrony or systemd-timesyncd on every one: chronyc tracking, timedatectl show -p NTPSynchronized",
        )
        .change(
            "VM",
            "a machine that was paused or restored has the time of then, until NTP steps it: chronyc makestep",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::checks::Verdict;

    fn clock(name: &str, ahead: f64) -> Clock {
        Clock { name: name.to_owned(), ahead, within: 0.5 }
    }

    fn judged(read: &[(&str, f64)], positions: Option<f64>) -> (Verdict, String) {
        let read = read.iter().map(|(name, ahead)| clock(name, *ahead)).collect();
        let positions = positions.map(|ahead| clock("the time in events' ids", ahead));
        let check = clocks(&Clocks { read, positions });
        (check.verdict, check.measured)
    }

    #[test]
    fn in_step() {
        let wanted = "no difference between this machine, Redis, the gateway at b:1";
        assert_eq!(
            judged(&[("Redis", 0.01), ("the gateway at b:1", -0.4)], Some(0.0)),
            (Verdict::Ok, wanted.to_owned())
        );
        let wanted = "1.5 s apart between this machine, Redis";
        assert_eq!(judged(&[("Redis", 2.0)], None), (Verdict::Ok, wanted.to_owned()));
        assert_eq!(judged(&[], None), (Verdict::NotChecked, "no other clock could be read".to_owned()));
    }

    #[test]
    fn whichever_is_off_is_named() {
        let three = [("a:80", 0.2), ("the gateway at b:1", -0.1), ("Redis", 7_200.0)];
        let wanted = "Redis is 2h ahead of a:80 and 2 others";
        assert_eq!(judged(&three, Some(7_200.0)), (Verdict::Wrong, wanted.to_owned()));
        let gateway = [("a:80", 0.0), ("the gateway at b:1", -90.0), ("Redis", 0.0)];
        let wanted = "the gateway at b:1 is 1m 30s behind a:80 and 2 others";
        assert_eq!(judged(&gateway, None), (Verdict::Wrong, wanted.to_owned()));
        let two = [("a:80", 60.0)];
        assert_eq!(judged(&two, None), (Verdict::Wrong, "this machine is 1m behind a:80".to_owned()));
        let ours = [("a:80", 60.0), ("Redis", 60.0)];
        assert_eq!(judged(&ours, None), (Verdict::Remark, "this machine is 1m behind a:80 and another one".to_owned()));
        // They stand for Redis where it was not asked.
        let wanted = "the time in events' ids is 5m ahead of a:80 and another one";
        assert_eq!(judged(&[("a:80", 0.0)], Some(300.0)), (Verdict::Wrong, wanted.to_owned()));
    }

    #[test]
    fn positions_ahead_of_their_clock() {
        let redis = [("Redis", 0.0)];
        let wanted = "the time in events' ids is 10m ahead of Redis";
        assert_eq!(judged(&redis, Some(600.0)), (Verdict::Remark, wanted.to_owned()));
        assert_eq!(
            judged(&redis, Some(86_400.0)),
            (Verdict::Wrong, "the time in events' ids is 1day ahead of Redis".to_owned())
        );
    }

    #[test]
    fn a_date_has_no_fractions() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Thu, 01 Jan 1970 00:01:40 GMT".parse().unwrap());
        let between = [90_000, 90_200].map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let read = Clock::of_head("x", &headers, between).unwrap();
        assert!((read.ahead - 10.4).abs() < 1e-6 && (read.within - 0.6).abs() < 1e-6, "{read:?}");
        headers.insert(DATE, "yesterday".parse().unwrap());
        assert_eq!(Clock::of_head("x", &headers, between), None);
    }
}
