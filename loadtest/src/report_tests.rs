use super::*;
use crate::reasons::Reasons;
use crate::table::table;
use crate::verify::Verdict;

fn account() -> Account {
    Account { verdict: Verdict { expected: 200, delivered: 200, ..Verdict::default() }, ..Account::default() }
}

fn stats() -> Stats {
    Stats { opened: 10, ..Stats::default() }
}

fn report() -> Report {
    let mut times = Times::new();
    (1..=100).for_each(|ms| times.record_ns(ms * 1_000_000));
    Report {
        scenario: Scenario::Broadcast,
        passed: false,
        reasons: Vec::new(),
        connections: Connections { wanted: 10, opened: 10, ..Connections::default() },
        events: Some(Events { published: 20, seconds: 2.0, per_second: per(20.0, 2.0), ..Events::default() }),
        deliveries: Some(Deliveries::of(&account(), Some(50.0))),
        latency_ms: Latency::of(&times),
        server: Some(Server {
            cpu_us_per_delivery: Some(5.0),
            rss_kib_per_connection: Some(25.0),
            ..Server::default()
        }),
        watched: BTreeMap::from([("redis".to_owned(), Watched { rss_open_kib: Some(7), ..Watched::default() })]),
        system: System::default(),
        client: Client { processes: 1, cpu_percent: Some(25.0), ..Client::default() },
        storm: None,
        churn: None,
        slow: None,
        tokens: None,
    }
}

fn judged(change: impl FnOnce(&mut Report), stats: &Stats, tolerate_loss: bool) -> (bool, String) {
    let mut report = report();
    change(&mut report);
    report.judge(stats, tolerate_loss);
    (report.passed, report.reasons.join("; "))
}

#[test]
fn each_thing_that_can_be_wrong_fails_the_run_and_is_named() {
    assert_eq!(judged(|_| {}, &stats(), false), (true, String::new()));
    type Change = fn(&mut Report);
    let changes: [(Change, &str); 10] = [
        (|report| report.connections.failed = 1, "1 connections failed"),
        (|report| report.connections.dropped = 2, "2 connections were dropped"),
        (|report| report.deliveries.as_mut().unwrap().lost = 3, "3 deliveries lost"),
        (|report| report.deliveries.as_mut().unwrap().gaps = 4, "4 gaps told"),
        (|report| report.deliveries.as_mut().unwrap().duplicated = 5, "5 deliveries duplicated"),
        (|report| report.deliveries.as_mut().unwrap().out_of_order = 6, "6 deliveries out of order"),
        (|report| report.deliveries.as_mut().unwrap().foreign = 7, "7 foreign events"),
        (|report| report.events.as_mut().unwrap().published = 0, "no event was published"),
        (
            |report| report.storm = Some(Storm { rounds: vec![Round::default()] }),
            "1 rounds in which not every connection caught up",
        ),
        (|report| report.connections.failed = u64::MAX, "18446744073709551615 connections failed"),
    ];
    for (change, reason) in changes {
        assert_eq!(judged(change, &stats(), false), (false, reason.to_owned()));
    }
    assert_eq!(judged(|_| {}, &Stats::default(), false), (false, "no connection opened".to_owned()));
}

#[test]
fn losses_are_tolerated_where_that_was_asked_for_and_nothing_else_is() {
    let lossy = |report: &mut Report| {
        let deliveries = report.deliveries.as_mut().unwrap();
        (deliveries.lost, deliveries.gaps) = (1, 1);
    };
    assert!(judged(lossy, &stats(), true).0);
    assert!(!judged(|report| report.deliveries.as_mut().unwrap().duplicated = 1, &stats(), true).0);
}

#[test]
fn fewer_connections_than_wanted_are_no_failure_of_themselves() {
    // Memory was short: the number that was reached is the result.
    assert!(judged(|report| report.connections.opened = 4, &stats(), false).0);
    assert!(judged(|report| (report.events, report.deliveries) = (None, None), &stats(), false).0);
}

#[test]
fn accounts_of_several_processes_add_up() {
    let part = |foreign, unknown| {
        let mut reasons = Reasons::default();
        reasons.add("failed: x".to_owned(), 2);
        let mut times = Times::new();
        times.record_ns(5_000_000);
        let verdict = Verdict { expected: 5, lost: 1, unknown, ..Verdict::default() };
        Account { verdict, foreign, gaps: 1, reasons, latency: times.counted(), stuck: 1, ..Account::default() }
    };
    let (sum, latency, connect) = sum_up(vec![part(1, 10), part(2, 20)]);
    let deliveries = Deliveries::of(&sum, None);
    assert_eq!((deliveries.expected, deliveries.lost, deliveries.foreign, deliveries.gaps), (10, 2, 33, 2));
    assert_eq!((latency.count(), connect.count(), sum.stuck), (2, 0, 2));
    assert_eq!(sum.reasons.iter().collect::<Vec<_>>(), [("failed: x", 4)]);
}

#[test]
fn the_json_has_the_names_and_the_units_of_its_contract() {
    let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&json),
        "churn client connections deliveries events latency_ms passed reasons scenario server slow storm system tokens watched"
    );
    assert_eq!(keys(&json["connections"]), "connect_ms dropped failed opened per_second seconds wanted");
    assert_eq!(keys(&json["events"]), "late_ms not_sent per_second published seconds unsure");
    assert_eq!(keys(&json["deliveries"]), "delivered duplicated expected foreign gaps lost out_of_order per_second");
    assert_eq!(keys(&json["latency_ms"]), "count max p50 p90 p99 p999");
    assert_eq!(
        keys(&json["server"]),
        "cpu_seconds cpu_us_per_connect cpu_us_per_delivery idle_cpu_percent pids rss_before_kib rss_end_kib \
         rss_kib_per_connection rss_open_kib"
    );
    assert_eq!((&json["watched"]["redis"]["rss_open_kib"], &json["scenario"]), (&7.into(), &"broadcast".into()));
    assert!(json["storm"].is_null() && json["server"]["cpu_seconds"].is_null());
    assert!((98.9..99.2).contains(&json["latency_ms"]["p99"].as_f64().unwrap()));
}

#[test]
fn the_table_says_the_same() {
    let mut report = report();
    let verdict = Verdict { expected: 9, delivered: 7, lost: 2, duplicated: 3, out_of_order: 4, unknown: 5 };
    report.deliveries = Some(Deliveries::of(&Account { verdict, foreign: 6, gaps: 7, ..Account::default() }, None));
    report.reasons.push("8 x failed: status 503".to_owned());
    report.slow = Some(Slow { stuck: 12, closed_by_server: 11 });
    report.storm =
        Some(Storm { rounds: vec![Round { dropped: 3, reopened: 4, caught_up_seconds: Some(1.5), seconds: None }] });
    let text = table(&report);
    for part in [
        "9 expected, 7 delivered",
        "2 lost, 3 duplicated, 4 out of order, 11 foreign, 7 gaps told",
        "5.00 us per delivery",
        "25.00 KiB per connection",
        "8 x failed: status 503",
        "12 stuck, 11 of them closed by the server",
        "3 dropped, 4 reopened, all open after - s, caught up after 1.5 s",
        "FAILED",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn nothing_measured_is_absent_and_not_a_division_by_zero() {
    assert_eq!((per(1.0, 0.0), per(1.0, 2.0)), (None, Some(0.5)));
    assert!(Latency::of(&Times::new()).is_none() && Connect::of(&Times::new()).is_none());
    let report = Report { latency_ms: None, server: Some(Server::default()), ..report() };
    assert!(!table(&report).contains("NaN"));
}
