//! Which rule counts, what it does to a publication, and which rules are none.

use std::sync::Mutex;

use super::*;
use crate::Once;

/// Writes down what reaches it, and how. Channels beginning `down` are not available.
#[derive(Default)]
struct Recording {
    singles: Mutex<Vec<(String, Publication)>>,
    batches: Mutex<Vec<Vec<(String, Publication)>>>,
    /// Outcomes of a batch that it keeps to itself.
    swallowed: usize,
}

fn outcome(channel: &Channel, publication: &Publication) -> Result<Receipt, PublishError> {
    if channel.as_str().starts_with("down") {
        return Err(PublishError::Unavailable { reason: "down".to_owned(), retry_after: Duration::from_secs(9) });
    }
    // The length of the payload tells the outcomes apart.
    Ok(Receipt { position: None, cursor: None, receivers: publication.payload.len() as u64, duplicate: false })
}

impl Publish for Recording {
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        publication: Publication,
    ) -> BoxFuture<'a, Result<Receipt, PublishError>> {
        let outcome = outcome(channel, &publication);
        self.singles.lock().unwrap().push((channel.to_string(), publication));
        std::future::ready(outcome).boxed()
    }

    fn publish_batch<'a>(
        &'a self,
        batch: Vec<(Channel, Publication)>,
    ) -> BoxFuture<'a, Vec<Result<Receipt, PublishError>>> {
        let mut outcomes: Vec<_> = batch.iter().map(|(channel, publication)| outcome(channel, publication)).collect();
        outcomes.truncate(outcomes.len() - self.swallowed.min(outcomes.len()));
        let batch = batch.into_iter().map(|(channel, publication)| (channel.to_string(), publication)).collect();
        self.batches.lock().unwrap().push(batch);
        std::future::ready(outcomes).boxed()
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn settings(json: &str) -> ChannelSettings {
    let settings: ChannelSettings = serde_json::from_str(json).unwrap();
    assert_eq!(settings.check(), []);
    settings
}

/// An ephemeral family with an exception in it, inside of defaults for everybody.
fn family() -> ChannelSettings {
    settings(
        r#"[
            {"prefix": "chat:", "ephemeral": true},
            {"prefix": "", "history": 10, "ttl": "1m"},
            {"prefix": "chat:kept:", "history": 5},
            {"prefix": "chat:kept:plain"}
        ]"#,
    )
}

fn history(entries: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(entries)
}

fn once() -> Once {
    Once::parse("k").unwrap()
}

#[track_caller]
fn refused(result: Result<Receipt, PublishError>, expected_field: &str, expected_reason: &str) {
    let Err(PublishError::Refused { field, reason }) = result else { panic!("not refused: {result:?}") };
    assert_eq!((field, &*reason), (expected_field, expected_reason));
}

const NO_ONCE: &str = "every event on chat:1 is ephemeral: there is no position to answer a repeated once key with";
const NO_END: &str =
    "every event on chat:1 is ephemeral: an end has to be in history, so that who comes late learns of it";

#[tokio::test]
async fn the_longest_prefix_counts_whole_and_in_any_order() {
    let recording = Arc::new(Recording::default());
    let mut settings = family();
    for reverse in [false, true] {
        if reverse {
            settings.0.reverse();
        }
        let configured = Configured::new(recording.clone(), settings.clone());
        for name in ["user:42", "chat", "chat:1", "chat:kept:1", "chat:kept:plain:1"] {
            configured.publish(&channel(name), Publication::new("x")).await.unwrap();
        }
        let plain = Publication::new("x");
        let expected = [
            ("user:42", Publication { history: history(10), ttl: Some(Duration::from_secs(60)), ..plain.clone() }),
            ("chat", Publication { history: history(10), ttl: Some(Duration::from_secs(60)), ..plain.clone() }),
            ("chat:1", plain.clone().ephemeral()),
            ("chat:kept:1", Publication { history: history(5), ttl: None, ..plain.clone() }),
            ("chat:kept:plain:1", plain.clone()),
        ];
        let asked = std::mem::take(&mut *recording.singles.lock().unwrap());
        assert_eq!(asked, expected.map(|(name, publication)| (name.to_owned(), publication)), "reversed: {reverse}");
    }
}

#[tokio::test]
async fn without_a_rule_nothing_changes() {
    let recording = Arc::new(Recording::default());
    let configured = Configured::new(recording.clone(), settings(r#"[{"prefix": "chat:", "ephemeral": true}]"#));
    let said = Publication { history: history(3), ttl: Some(Duration::from_secs(5)), ..Publication::new("x") };
    for publication in [said.clone(), said.once(once()), Publication::new(r#"{"end":true}"#)] {
        configured.publish(&channel("chat"), publication.clone()).await.unwrap();
        assert_eq!(recording.singles.lock().unwrap().pop(), Some(("chat".to_owned(), publication)));
    }
}

#[tokio::test]
async fn what_a_publication_says_wins() {
    let recording = Arc::new(Recording::default());
    let configured = Configured::new(recording.clone(), family());
    let own = |entries, ttl: Option<u64>| Publication {
        history: entries,
        ttl: ttl.map(Duration::from_secs),
        ..Publication::new("x").once(once())
    };
    for (said, expected) in [
        (own(history(3), None), own(history(3), Some(60))),
        (own(None, Some(5)), own(history(10), Some(5))),
        (own(history(2_000_000), Some(5)), own(history(2_000_000), Some(5))),
    ] {
        configured.publish(&channel("user:42"), said).await.unwrap();
        assert_eq!(recording.singles.lock().unwrap().pop(), Some(("user:42".to_owned(), expected)));
    }
    let live = Publication::new("x").ephemeral();
    configured.publish(&channel("chat:kept:1"), live).await.unwrap();
    let (_, publication) = recording.singles.lock().unwrap().pop().unwrap();
    assert!(publication.ephemeral, "a rule makes nothing durable");
}

#[tokio::test]
async fn ephemeral_channels_refuse_once_and_end() {
    let recording = Arc::new(Recording::default());
    let configured = Configured::new(recording.clone(), family());
    let publish = async |publication| configured.publish(&channel("chat:1"), publication).await;
    refused(publish(Publication::new("x").once(once())).await, "once", NO_ONCE);
    refused(publish(Publication::new(r#"{"data":1,"end":true}"#)).await, "end", NO_END);
    refused(publish(Publication::new(r#"{"end":true}"#).ephemeral()).await, "end", NO_END);
    assert_eq!(*recording.singles.lock().unwrap(), [], "nothing was published");

    // No envelope, or none that ends anything.
    for payload in [r#"{"end":false}"#, r#"{"end":true,"x":1}"#, r#"{"data":{"end":true}}"#, "\"end\"", "", "\u{0}"] {
        publish(Publication::new(payload)).await.unwrap();
        assert_eq!(recording.singles.lock().unwrap().pop().unwrap().1, Publication::new(payload).ephemeral());
    }
}

#[tokio::test]
async fn a_batch_has_an_outcome_each_in_order() {
    let recording = Arc::new(Recording::default());
    let configured = Configured::new(recording.clone(), family());
    let batch = vec![
        (channel("user:42"), Publication::new("x")),
        (channel("chat:1"), Publication::new("xx").once(once())),
        (channel("down:1"), Publication::new("xxx")),
        (channel("chat:1"), Publication::new("xxxx")),
        (channel("chat:1"), Publication::new(r#"{"end":true}"#)),
        (channel("user:42"), Publication::new("xxxxx")),
    ];
    let mut outcomes = configured.publish_batch(batch).await.into_iter();
    let receivers =
        |outcomes: &mut std::vec::IntoIter<Result<Receipt, PublishError>>| outcomes.next().unwrap().unwrap().receivers;
    assert_eq!(receivers(&mut outcomes), 1);
    refused(outcomes.next().unwrap(), "once", NO_ONCE);
    assert!(matches!(outcomes.next().unwrap(), Err(PublishError::Unavailable { reason, .. }) if reason == "down"));
    assert_eq!(receivers(&mut outcomes), 4);
    refused(outcomes.next().unwrap(), "end", NO_END);
    assert_eq!(receivers(&mut outcomes), 5);
    assert!(outcomes.next().is_none());

    let batches = std::mem::take(&mut *recording.batches.lock().unwrap());
    let [batch] = batches.as_slice() else { panic!("published apart: {batches:?}") };
    let asked: Vec<_> = batch.iter().map(|(name, asked)| (&**name, asked.ephemeral, asked.history)).collect();
    let ten = history(10);
    assert_eq!(
        asked,
        [("user:42", false, ten), ("down:1", false, ten), ("chat:1", true, None), ("user:42", false, ten)]
    );
    assert_eq!(*recording.singles.lock().unwrap(), []);
}

#[tokio::test]
async fn batches_with_nothing_to_publish_or_too_few_outcomes() {
    let recording = Arc::new(Recording { swallowed: 1, ..Recording::default() });
    let configured = Configured::new(recording.clone(), family());
    assert_eq!(configured.publish_batch(Vec::new()).await, []);
    let outcomes = configured.publish_batch(vec![(channel("chat:1"), Publication::new("x").once(once()))]).await;
    assert!(matches!(outcomes.as_slice(), [Err(PublishError::Refused { .. })]), "{outcomes:?}");
    assert_eq!(recording.batches.lock().unwrap().len(), 0);

    let two = ["a", "b"].map(|name| (channel(name), Publication::new("x")));
    let outcomes = configured.publish_batch(two.into()).await;
    assert!(matches!(outcomes.as_slice(), [Ok(_), Err(PublishError::Rejected { .. })]), "{outcomes:?}");
}

#[test]
fn rules_are_written_as_they_are_read() {
    let json = r#"[{"prefix":"a","history":100,"ttl":"10m","ephemeral":false},{"prefix":"b","history":null,"ttl":null,"ephemeral":true}]"#;
    let read: ChannelSettings = serde_json::from_str(json).unwrap();
    assert_eq!(read.0[0].ttl, Some(Duration::from_secs(600)));
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
    assert_eq!(serde_json::to_string(&ChannelSettings::default()).unwrap(), "[]");

    for (json, expected) in [
        (r#"[{}]"#, "missing field `prefix`"),
        (r#"[{"prefix": "a", "histroy": 1}]"#, "unknown field `histroy`"),
        (r#"[{"prefix": "a", "history": 0}]"#, "a nonzero u32"),
        (r#"[{"prefix": "a", "history": "5"}]"#, "a nonzero u32"),
        (r#"[{"prefix": "a", "ttl": 60}]"#, "a duration such as \"20s\""),
        (r#"[{"prefix": "a", "ttl": "60"}]"#, "a duration such as \"20s\""),
        (r#"[{"prefix": "a", "ephemeral": 1}]"#, "a boolean"),
        (r#"{"prefix": "a"}"#, "a sequence"),
    ] {
        let error = serde_json::from_str::<ChannelSettings>(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn the_taught_example_has_every_key() {
    let (key, example) = ChannelSettings::taught();
    assert_eq!(key, "channels");
    assert_eq!(example, serde_json::to_value(ChannelRule::default()).unwrap());
}

#[test]
fn every_wrong_rule_names_its_key() {
    let rule = |prefix: &str| ChannelRule { prefix: prefix.to_owned(), ..ChannelRule::default() };
    let limits = ChannelRule { history: history(1_000_001), ttl: Some(Duration::from_millis(999)), ..rule("a") };
    let wrong = ChannelSettings(vec![
        limits,
        rule("sse.control"),
        rule("a b"),
        rule(&"x".repeat(257)),
        ChannelRule { ttl: Some(MAX_RULE_TTL + Duration::from_secs(1)), ..rule("a") },
        ChannelRule { ttl: Some(Duration::from_millis(1_500)), ephemeral: true, ..rule("b") },
        ChannelRule { history: history(1), ephemeral: true, ..rule("c") },
        rule(""),
        rule(""),
    ]);
    let errors: Vec<_> = wrong.check().iter().map(ToString::to_string).collect();
    let characters = "(no control characters, white space, '{', '}' or '*')";
    let no_history = "ephemeral events have no history, so neither history nor ttl may be set with it";
    assert_eq!(
        errors,
        [
            "\"channels[0].history\": 1000001 is not within 1 and 1000000".to_owned(),
            "\"channels[0].ttl\": 999ms is not within 1s and 366d".to_owned(),
            "\"channels[1].prefix\": channels beginning sse. are the cluster's own, nobody publishes to them"
                .to_owned(),
            format!(
                "\"channels[2].prefix\": no channel's name begins so: a channel name may not have ' ' {characters}"
            ),
            "\"channels[3].prefix\": no channel's name begins so: a channel name has 257 bytes, the limit is 256"
                .to_owned(),
            "\"channels[4].prefix\": channels[0] has the same prefix \"a\"".to_owned(),
            "\"channels[4].ttl\": 31622401s is not within 1s and 366d".to_owned(),
            "\"channels[5].ttl\": 1.5s is not a whole number of seconds".to_owned(),
            format!("\"channels[5].ephemeral\": {no_history}"),
            format!("\"channels[6].ephemeral\": {no_history}"),
            "\"channels[8].prefix\": channels[7] has the same prefix \"\"".to_owned(),
        ]
        .map(|error| format!("invalid value for {error}"))
    );
}

#[test]
fn the_ends_of_every_range_will_do() {
    let rule = |prefix: String, entries, ttl| ChannelRule {
        prefix,
        history: history(entries),
        ttl: Some(ttl),
        ephemeral: false,
    };
    let right = ChannelSettings(vec![
        rule(String::new(), 1, Duration::from_secs(1)),
        rule("x".repeat(256), MAX_RULE_HISTORY, MAX_RULE_TTL),
        rule("sse".to_owned(), 1, Duration::from_secs(1)),
        rule("한글/".to_owned(), 1, Duration::from_secs(1)),
    ]);
    assert_eq!(right.check(), []);
    let longest = channel(&"x".repeat(256));
    assert_eq!(right.rule(&longest).and_then(|rule| rule.history), history(MAX_RULE_HISTORY));
    assert_eq!(right.rule(&channel("x")).and_then(|rule| rule.history), history(1));
}
