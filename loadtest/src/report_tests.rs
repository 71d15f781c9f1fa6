use super::*;

fn connections() -> Connections {
    Connections { wanted: 10, channels: 2, opened: 10, failed: 0, closed_early: 0 }
}

fn publishing() -> Publishing {
    Publishing { due: 40, acknowledged: 40, errors: 0, not_sent: 0 }
}

fn events() -> Events {
    Events::new(&Verdict { expected: 200, delivered: 200, ..Verdict::default() }, 0, 0)
}

fn report() -> Report {
    let histogram = Histogram::new();
    (1..=100).for_each(|ms| histogram.record(ms * 1_000_000));
    let usage = |ms, rss_kib| Usage { cpu: Duration::from_millis(ms), rss_kib };
    let readings = Readings {
        before: usage(5, 1_000),
        idle: usage(10, 1_250),
        measure_start: Some(usage(20, 1_300)),
        end: usage(21, 1_100),
    };
    Report {
        passed: true,
        interrupted: false,
        connections: connections(),
        publishing: publishing(),
        events: events(),
        latency_ms: Latency::of(&histogram),
        throughput: Throughput::new(200, Duration::from_secs(4)),
        client: Client::new(Duration::from_secs(1), Duration::from_secs(4), 1),
        server: Some(Server::new(&readings, 10, 200)),
        reasons: Reasons::default(),
    }
}

#[test]
fn percentiles_are_told_in_milliseconds() {
    let latency = report().latency_ms.unwrap();
    assert!((50.0..52.0).contains(&latency.p50), "{}", latency.p50);
    assert!((99.0..=100.0).contains(&latency.p99), "{}", latency.p99);
    assert_eq!((latency.max, latency.count), (100.0, 100));
    assert!(Latency::of(&Histogram::new()).is_none());
}

#[test]
fn the_server_is_told_by_delivery_and_by_connection() {
    let server = report().server.unwrap();
    assert_eq!(server.cpu_us_per_delivery, Some(5.0));
    assert_eq!((server.kib_per_idle_connection, server.kib_per_connection_at_end), (Some(25.0), Some(10.0)));
}

#[test]
fn a_client_at_its_limit_says_so() {
    assert!(report().table().contains("0.25 cores\n"));
    let (wall, cpu) = (Duration::from_secs(10), Duration::from_secs(9));
    let report = Report { client: Client::new(cpu, wall, 1), ..report() };
    assert!(report.table().contains("0.90 cores, its limit"), "{}", report.table());
    assert!(!Client::new(cpu, wall, 2).unwrap().saturated);
    assert!(Client::new(cpu, Duration::ZERO, 1).is_none());
}

#[test]
fn nothing_measured_is_absent_and_not_a_division_by_zero() {
    let readings =
        Readings { before: Usage::default(), idle: Usage::default(), measure_start: None, end: Usage::default() };
    let server = Server::new(&readings, 0, 0);
    assert_eq!((server.cpu_seconds, server.cpu_us_per_delivery, server.kib_per_idle_connection), (None, None, None));
    assert!(Throughput::new(0, Duration::from_secs(1)).is_none());
    assert!(Throughput::new(1, Duration::ZERO).is_none());
    let report = Report { latency_ms: None, throughput: None, server: Some(server), ..report() };
    assert!(!report.table().contains("NaN"));
    assert!(report.json().unwrap().contains("\"latency_ms\": null"));
}

#[test]
fn each_thing_that_can_be_wrong_fails_the_run() {
    assert!(passes(&connections(), &publishing(), &events()));
    for bad in [
        Connections { opened: 9, failed: 1, ..connections() },
        Connections { opened: 9, ..connections() },
        Connections { closed_early: 1, ..connections() },
    ] {
        assert!(!passes(&bad, &publishing(), &events()), "{bad:?}");
    }
    for bad in [
        Events { lost: 1, ..events() },
        Events { duplicated: 1, ..events() },
        Events { out_of_order: 1, ..events() },
        Events { foreign: 1, ..events() },
        Events::new(&Verdict { unknown: 1, ..Verdict::default() }, 0, 0),
    ] {
        assert!(!passes(&connections(), &publishing(), &bad), "{bad:?}");
    }
    let none = Publishing { acknowledged: 0, errors: 40, ..publishing() };
    assert!(!passes(&connections(), &none, &events()), "nothing published proves nothing");
    let some = Publishing { acknowledged: 39, errors: 1, ..publishing() };
    assert!(passes(&connections(), &some, &events()));
    let idle = Publishing { due: 0, acknowledged: 0, errors: 0, not_sent: 0 };
    assert!(passes(&connections(), &idle, &events()), "a rate of 0 is a measurement of idle connections");
}

#[test]
fn the_table_and_the_json_say_the_same() {
    let mut report = report();
    report.events =
        Events::new(&Verdict { expected: 9, delivered: 7, lost: 2, duplicated: 3, out_of_order: 4, unknown: 5 }, 6, 7);
    report.reasons.add("failed: status 503".to_owned(), 8);
    report.passed = false;
    let table = report.table();
    for text in [
        "9 expected, 7 delivered",
        "2 lost, 3 duplicated, 4 out of order, 11 foreign, 7 gaps told",
        "50 deliveries/s over 4.0 s",
        "5.00 us per delivery",
        "25.00 KiB per idle connection",
        "8 x failed: status 503",
        "FAILED",
    ] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
    let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(json["events"]["foreign"], 11);
    assert_eq!(json["passed"], false);
    assert_eq!(json["server"]["cpu_us_per_delivery"], 5.0);
    assert_eq!(json["reasons"]["failed: status 503"], 8);
}
