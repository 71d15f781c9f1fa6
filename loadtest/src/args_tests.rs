use super::*;

fn parse(flags: &[&str]) -> Result<Args, String> {
    let args = Args::try_parse_from([&["sse-loadtest"], flags].concat()).map_err(|error| error.to_string())?;
    args.check()?;
    Ok(args)
}

#[test]
fn the_flags_are_well_formed_and_the_defaults_are_those_of_the_help() {
    use clap::CommandFactory as _;
    Args::command().debug_assert();
    let args = parse(&[]).unwrap();
    assert_eq!((args.connections, args.channels(), args.size(), args.connect_rate), (1_000, 1, 256, 2_000));
    assert_eq!(
        (args.duration, args.warmup, args.idle),
        (Duration::from_secs(10), Duration::from_secs(2), Duration::from_secs(1))
    );
    assert_eq!((args.scenario, args.rate, args.command), (Scenario::Broadcast, 20.0, Command::Fcall));
    assert_eq!(args.publish_target(), "http://127.0.0.1:8080/publish".parse().ok());
    assert_eq!(args.stream_urls(), ["http://127.0.0.1:8080/events?channel={channel}".parse().unwrap()]);
    assert_eq!(args.key, "sse:{channel}");
}

#[test]
fn defaults_depend_on_the_scenario() {
    let channels = |flags: &[&str]| parse(flags).unwrap().channels();
    assert_eq!(channels(&["unicast", "--connections", "70"]), 70);
    assert_eq!(channels(&["tokens", "--connections", "70"]), 70);
    assert_eq!(channels(&["mixed", "--connections", "2"]), 4);
    assert_eq!(channels(&["idle", "--channels", "9"]), 9);
    let share = |flags: &[&str]| parse(flags).unwrap().share();
    assert_eq!((share(&["slow"]), share(&["storm"]), share(&["slow", "--share", "0.5"])), (0.1, 1.0, 0.5));
    let rounds = |flags: &[&str]| parse(flags).unwrap().rounds();
    assert_eq!((rounds(&["storm"]), rounds(&["churn"]), rounds(&["churn", "--rounds", "2"])), (1, 5, 2));
    assert_eq!((parse(&["tokens"]).unwrap().size(), parse(&["tokens", "--size", "99"]).unwrap().size()), (64, 99));
}

#[test]
fn publishing_goes_where_it_is_said_or_to_the_first_url() {
    let target = |flags: &[&str]| parse(flags).unwrap().publish_target().unwrap();
    let urls = ["--url", "http://a:1/x?c={channel}", "--url", "http://b:2"];
    assert_eq!(target(&urls), "http://a:1/publish".parse().unwrap());
    let redis = target(&["--publish", "redis://r:7/2"]);
    assert_eq!(redis, "redis://r:7/2".parse().unwrap());
    assert_eq!(parse(&["--watch-pid", "redis=5", "--watch-pid", "x=6"]).unwrap().watch[1], ("x".to_owned(), 6));
}

#[test]
fn a_bad_value_is_refused_with_the_flag_and_the_reason() {
    for (flags, reason) in [
        (&["--url", "https://x"][..], "must begin with http://"),
        (&["--url", "127.0.0.1:8080"], "must begin with http://"),
        (&["--url", "http://a:b@x"], "user name or password"),
        (&["--url", "http://x:99999"], "port"),
        (&["--url", "http://x:0"], "port"),
        (&["--url", "http://x:"], "port"),
        (&["--url", "http://{channel}/"], "behind the port only"),
        (&["--url", ""], "not a URL"),
        (&["--publish", "ftp://x"], "must begin with redis:// or http://"),
        (&["--connections", "0"], "1..=1000000"),
        (&["--connections", "many"], "invalid digit"),
        (&["--rate=-1"], "not within 0 to 1000000"),
        (&["--rate", "NaN"], "not within 0 to 1000000"),
        (&["--rate", "inf"], "not within 0 to 1000000"),
        (&["--rate", "fast"], "not a number"),
        (&["--size", "63"], "64..=65536"),
        (&["--size", "65537"], "64..=65536"),
        (&["--duration", "10"], "for example 500ms"),
        (&["--duration", "0s"], "longer than 0s"),
        (&["--duration", "25h"], "limit of 24h"),
        (&["--warmup", "soon"], "for example 500ms"),
        (&["--connect-rate", "0"], "1..=100000"),
        (&["--processes", "0"], "1..=1000"),
        (&["--source-addresses", "0"], "1..=10000"),
        (&["--share", "1.5"], "not within 0 to 1"),
        (&["--share", "half"], "not a number"),
        (&["--rounds", "0"], "1..=1000"),
        (&["--tokens", "0"], "1..=100000"),
        (&["--memory-limit", "100"], "1..=99"),
        (&["--server-pid", "0"], "not in 1.."),
        (&["--watch-pid", "7"], "not NAME=PID"),
        (&["--watch-pid", "a=b"], "not a number above 0"),
        (&["--watch-pid", "=7"], "lacks the name"),
        (&["--channel-prefix", "a b"], "letters, digits"),
        (&["--channel-prefix", ""], "not 1 to 64"),
        (&["--channel-prefix", "sse.x"], "keep for themselves"),
        (&["--channel", "a b"], "white space"),
        (&["--channel", ""], "not 1 to 256"),
        (&["--key", ""], "not 1 to 256"),
        (&["--payload", "hello"], "must hold {data} or {json}"),
        (&["--content-type", "a\nb"], "not the value of a header"),
    ] {
        let error = parse(flags).unwrap_err();
        assert!(error.contains(reason), "{flags:?}: {error}");
        assert!(error.contains(flags[0].split('=').next().unwrap()), "{flags:?}: {error}");
    }
    assert!(parse(&["flood"]).unwrap_err().contains("broadcast, unicast, mixed, storm, slow, churn, tokens, idle"));
}

#[test]
fn flags_that_do_not_go_together_are_refused_by_their_names() {
    for (flags, reason) in [
        (&["--channels", "1001"][..], "--channels 1001 must not exceed --connections 1000"),
        (&["unicast", "--channels", "7"], "--channels 7 is not for Unicast"),
        (&["unicast", "--channel", "a"], "--channel names one channel: it needs --channels 1"),
        (&["unicast", "--url", "http://a/x"], "must hold {channel}: there are several channels"),
        (&["unicast", "--key", "k"], "--key \"k\" must hold {channel}"),
        (&["mixed", "--url", "http://a/{channel}"], "must hold a query parameter like channel={channel}"),
        (&["--once", "--rate", "0"], "--once publishes at --rate, which must be above 0"),
        (&["storm", "--once"], "--once is for"),
        (&["slow", "--share", "1"], "--share must be below 1"),
        (&["storm", "--rate", "0.5"], "--rate must be at least 1 for each of 1 channels"),
        (&["tokens", "--payload", "{data}"], "--payload is not for tokens"),
        (&["tokens", "--publish", "redis://r", "--command", "publish"], "--command publish is not for tokens"),
    ] {
        let error = parse(flags).unwrap_err();
        assert!(error.contains(reason), "{flags:?}: {error}");
    }
    // One channel needs no place for its name.
    assert!(parse(&["--url", "http://a/x", "--key", "k", "--channel", "bench"]).is_ok());
    assert!(parse(&["unicast", "--connections", "1", "--channel", "bench"]).is_ok());
}
