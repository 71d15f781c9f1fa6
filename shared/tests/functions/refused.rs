//! What is refused, word by word, and that nothing is written then.

use shared::channel::Channel;

use crate::support::everywhere;

const SHAPE: &str = "ERR sse_publish: key is not <prefix>:<channel> or <prefix>:{<n>}:<channel>, \
                     prefix 1 to 32 of A-Z a-z 0-9 _ -, n 0 to 16383";
const CHARACTER: &str = "ERR sse_publish: key has a channel with a control character, white space, {, } or *";

#[tokio::test]
async fn keys_of_another_shape() {
    everywhere(async |place| {
        let long = format!("{}:a", "x".repeat(33));
        for key in ["", "sse", ":a", "s e:a", "sse.last:a", "한:a", "sse:{16384}:a", "sse:{07}:a", "{sse}:a", &long] {
            assert_eq!(place.refusal("sse_publish", &[key], &["x"]).await, SHAPE, "{key:?}");
            let cancel = SHAPE.replace("sse_publish", "sse_cancel");
            assert_eq!(place.refusal::<_, &str>("sse_cancel", &[key], &[]).await, cancel.clone(), "{key:?}");
        }
        for key in ["sse.cancel:", "sse.cancel:{7}:a", "sse.{16384}.cancel:a", "sse.{x}.cancel:a"] {
            let cancel = SHAPE.replace("sse_publish", "sse_cancel");
            assert_eq!(place.refusal::<_, &str>("sse_cancel", &[key], &[]).await, cancel, "{key:?}");
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
        place.publish(&format!("{}:a", "x".repeat(32)), &["x"]).await;
    })
    .await;
}

#[tokio::test]
async fn channels_of_the_wrong_length() {
    everywhere(async |place| {
        for (channel, bytes) in [("", 0), (&*"x".repeat(257), 257), (&"한".repeat(86), 258)] {
            for key in [format!("sse:{channel}"), format!("sse:{{7}}:{channel}")] {
                let expected = format!("ERR sse_publish: key has a channel of {bytes} bytes, the limit is 1 to 256");
                assert_eq!(place.refusal("sse_publish", &[&key], &["x"]).await, expected);
            }
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
        place.publish(&format!("sse:{}", "x".repeat(256)), &["x"]).await;
    })
    .await;
}

#[tokio::test]
async fn channels_with_a_character_that_no_channel_may_have() {
    everywhere(async |place| {
        // All of Latin-1, and all beyond it that Unicode calls white space, with their neighbours.
        let beyond = [0x1680, 0x180e, 0x2028, 0x2029, 0x202f, 0x205f, 0x2060, 0x3000, 0xfeff];
        let near = |c: u32| c - 1..=c + 1;
        let codes = (0..=0x100).chain(0x1fff..=0x200b).chain(beyond.into_iter().flat_map(near));
        for character in codes.filter_map(char::from_u32) {
            let channel = format!("a{character}b");
            let cmd = place.call("sse_publish", &[&format!("sse:{channel}")], &["x"]);
            let answer = place.run::<redis::Value>(&cmd).await;
            assert_eq!(answer.is_ok(), Channel::parse(&channel).is_ok(), "{character:?}");
        }
        for key in ["sse:a b", "sse:{x}:a", "sse:{}:a", "sse:{7}:{8}:a", "sse:a*", "sse:\0", "sse:\u{3000}"] {
            assert_eq!(place.refusal("sse_publish", &[key], &["x"]).await, CHARACTER, "{key:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn channels_that_are_not_utf_8() {
    everywhere(async |place| {
        let overlong = [&b"\xC0\x80"[..], b"\xC1\xBF", b"\xE0\x9F\xBF", b"\xF0\x8F\xBF\xBF"];
        let beyond = [&b"\xED\xA0\x80"[..], b"\xED\xBF\xBF", b"\xF4\x90\x80\x80", b"\xF5\x80\x80\x80", b"\xFF"];
        let broken = [&b"\x80"[..], b"\xC3", b"\xE2\x82", b"\xF0\x9F\x98", b"\xE2\xC3\xA9", b"\xF0\xE2\x82\xAC"];
        for channel in overlong.into_iter().chain(beyond).chain(broken) {
            let refusal = place.refusal("sse_publish", &[[b"sse:a", channel].concat()], &["x"]).await;
            assert_eq!(refusal, "ERR sse_publish: key has a channel that is not UTF-8", "{}", channel.escape_ascii());
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
        // The edges of what is.
        for channel in ["\u{a1}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{3ffff}\u{40000}\u{10ffff}"] {
            place.publish(&format!("sse:{channel}"), &["x"]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn keys_that_are_not_one() {
    everywhere(async |place| {
        for function in ["sse_publish", "sse_clock", "sse_cancel"] {
            for keys in [&[][..], &["sse:a", "sse:b"]] {
                let expected = format!("ERR {function}: keys are {}, the limit is 1", keys.len());
                assert_eq!(place.refusal(function, keys, &["x"]).await, expected);
            }
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}

#[tokio::test]
async fn arguments_of_a_publish() {
    everywhere(async |place| {
        let long = "x".repeat(129);
        let history = "history is not a whole number from 1 to 4294967295";
        let ttl = "ttl_s is not a whole number from 1 to 3153600000";
        let once_ttl = "once_ttl_s is not a whole number from 1 to 600";
        let character = "once has a control character or white space";
        let cases: &[(&[&str], &str)] = &[
            (&[], "payload is missing"),
            (&["x", "", "", "", "", "", "", ""], "arguments are 8, the limit is 7"),
            (&["x", "0"], history),
            (&["x", "4294967296"], history),
            (&["x", "-1"], history),
            (&["x", "1.5"], history),
            (&["x", "1e3"], history),
            (&["x", "0x10"], history),
            (&["x", "010"], history),
            (&["x", " 1"], history),
            (&["x", "ten"], history),
            (&["x", &"9".repeat(400)], history),
            (&["x", "", "0"], ttl),
            (&["x", "", "3153600001"], ttl),
            (&["x", "", "1h"], ttl),
            (&["x", "", "", &long], "once has 129 bytes, the limit is 128"),
            (&["x", "", "", "a b"], character),
            (&["x", "", "", "a\n"], character),
            (&["x", "", "", "\0"], character),
            (&["x", "", "", "\u{7f}"], character),
            (&["x", "", "", "\u{a0}"], character),
            (&["x", "", "", "k", "", "0"], once_ttl),
            (&["x", "", "", "k", "", "601"], once_ttl),
            (&["x", "", "", "", "", "1s"], once_ttl),
        ];
        for (args, expected) in cases {
            let refusal = place.refusal("sse_publish", &["sse:a"], args).await;
            assert_eq!(refusal, format!("ERR sse_publish: {expected}"), "{args:?}");
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
        // The edges of what is not refused.
        place.publish("sse:a", &["", "1", "1", &"x".repeat(128), "0", "1"]).await;
        place.publish("sse:a", &["", "4294967295", "3153600000", "{k}*\u{a1}", "", "600"]).await;
    })
    .await;
}

#[tokio::test]
async fn arguments_of_a_clock() {
    everywhere(async |place| {
        let shape =
            "key is not <prefix>.clock or <prefix>.{<n>}.clock, prefix 1 to 32 of A-Z a-z 0-9 _ -, n 0 to 16383";
        let long = format!("{}.clock", "x".repeat(33));
        for key in
            ["", "sse", "sse:clock", "sse.clocks", ".clock", "s.e.clock", "sse.{16384}.clock", "sse.{x}.clock", &long]
        {
            let refusal = place.refusal::<_, &str>("sse_clock", &[key], &[]).await;
            assert_eq!(refusal, format!("ERR sse_clock: {shape}"), "{key:?}");
        }
        for node in ["a b", "a:b", "한", "{7}", "a\0", &"x".repeat(65)] {
            let refusal = place.refusal("sse_clock", &["sse.clock"], &[node]).await;
            assert_eq!(refusal, "ERR sse_clock: node is not 1 to 64 of A-Z a-z 0-9 _ . -", "{node:?}");
        }
        for trusting in ["2", "true", " 1"] {
            let refusal = place.refusal("sse_clock", &["sse.clock"], &["n", trusting]).await;
            assert_eq!(refusal, "ERR sse_clock: trusting is not 0 or 1", "{trusting:?}");
        }
        for doubted in ["a b", "a-1", &"x".repeat(41)] {
            let refusal = place.refusal("sse_clock", &["sse.clock"], &["n", "", doubted]).await;
            assert_eq!(refusal, "ERR sse_clock: doubted is not an epoch", "{doubted:?}");
        }
        let refusal = place.refusal("sse_clock", &["sse.clock"], &["n", "", "", ""]).await;
        assert_eq!(refusal, "ERR sse_clock: arguments are 4, the limit is 3");
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
        let cmd = place.call("sse_clock", &["sse.clock"], &["x".repeat(64)]);
        place.run::<redis::Value>(&cmd).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn arguments_of_a_cancellation() {
    everywhere(async |place| {
        let refusal = place.refusal("sse_cancel", &["sse:a"], &["x"]).await;
        assert_eq!(refusal, "ERR sse_cancel: arguments are 1, the limit is 0");
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_script_wants_a_function_that_it_has() {
    everywhere(async |place| {
        // As a library, the server itself says so.
        if place.is_script() {
            for function in ["", "sse", "SSE_PUBLISH"] {
                let refusal = place.refusal(function, &["sse:a"], &["x"]).await;
                assert_eq!(refusal, "ERR sse: the first argument is not the name of a function, such as sse_publish");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_channel_whose_name_is_something_else_already() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse:a").await;
        place.ask::<()>(&["SET", "sse:a", "text"]).await;
        let refusal = place.refusal("sse_publish", &["sse:a"], &["x", "", "", "k"]).await;
        assert!(refusal.starts_with("WRONGTYPE "), "{refusal}");
        assert_eq!(place.ask::<Vec<String>>(&["KEYS", "*"]).await, ["sse:a"]);
        place.nothing_was_heard("sse:a").await;
    })
    .await;
}

#[tokio::test]
async fn a_history_with_an_id_that_cannot_be_counted_on() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse:a").await;
        for id in ["9007199254740991-9007199254740992", "9007199254740992-0", "18446744073709551615-0"] {
            place.ask::<String>(&["XADD", "sse:a", id, "f", "v"]).await;
            let refusal = place.refusal("sse_publish", &["sse:a"], &["x", "", "", "k"]).await;
            assert_eq!(refusal, "ERR sse_publish: key has an entry id beyond 9007199254740991");
        }
        assert_eq!(place.ask::<Vec<String>>(&["KEYS", "*"]).await, ["sse:a"]);
        place.nothing_was_heard("sse:a").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_without_memory_stores_nothing_and_publishes_nothing() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse:a").await;
        place.publish("sse:a", &["x"]).await;
        place.heard().await;
        let (clock, last) = (place.stored("sse.clock").await, place.stored("sse.last:a").await);
        place.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        place.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;

        let refusal = place.refusal("sse_publish", &["sse:a"], &["x", "", "", "k"]).await;
        assert!(refusal.starts_with("OOM "), "{refusal}");

        place.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        place.nothing_was_heard("sse:a").await;
        assert_eq!(place.ask::<u64>(&["XLEN", "sse:a"]).await, 1);
        assert_eq!(place.stored("sse.once:a:k").await, None);
        assert_eq!((place.stored("sse.clock").await, place.stored("sse.last:a").await), (clock, last));
    })
    .await;
}

#[tokio::test]
async fn a_server_without_memory_still_tells_the_clock() {
    everywhere(async |place| {
        place.listen("SUBSCRIBE", "sse.node:n").await;
        let replid = place.replid().await;
        for age_ms in [0, 120_000] {
            let position = format!("{}-0", place.time().await - age_ms);
            let clock = format!("{position} abc {replid}");
            place.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
            place.ask::<()>(&["SET", "sse.clock", &clock]).await;
            place.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
            let cmd = place.call("sse_clock", &["sse.clock"], &["n"]);
            let (at, ..): (String, String, u64) = place.run(&cmd).await.unwrap();
            // A script cannot be exempted, and raising the clock is a write: it stays as old as it is.
            assert_eq!(at == position, age_ms == 0 || place.is_script());
            assert_eq!(place.heard().await.2, format!("{at} abc {replid}").into_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_without_memory_still_cancels() {
    everywhere(async |place| {
        // A script cannot be exempted.
        if !place.is_script() {
            place.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
            let cmd = place.call::<_, &str>("sse_cancel", &["sse:a"], &[]);
            assert_eq!(place.run::<u64>(&cmd).await.unwrap(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_stores_nothing() {
    everywhere(async |place| {
        // Of a primary that is not there.
        place.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
        for (function, key, args) in
            [("sse_publish", "sse:a", &["x"][..]), ("sse_clock", "sse.clock", &[]), ("sse_cancel", "sse:a", &[])]
        {
            let refusal = place.refusal(function, &[key], args).await;
            assert!(refusal.starts_with("READONLY "), "{refusal}");
        }
        assert_eq!(place.ask::<u64>(&["DBSIZE"]).await, 0);
    })
    .await;
}
