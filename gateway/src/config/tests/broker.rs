//! Which broker: Redis and what must not be said of it, the settings of channels, and what follows for the demo page.

use std::path::PathBuf;

use super::*;

const URL: &str = "redis://127.0.0.1:6399";

/// A file of this text; it lives as long as the folder.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// As [`load`], of one file; the file is `FILE` in what is wrong.
pub(super) fn by_file(text: &str) -> Result<Config, String> {
    let (_folder, path) = file(text);
    load(&Sources::new(ENV_PREFIX).file(&path)).map_err(|error| error.replace(&path.display().to_string(), "FILE"))
}

fn by_flag(url: &str) -> Result<Config, String> {
    load(&Sources::new(ENV_PREFIX).flag("redis.url", "--redis-url", Some(url.to_owned())))
}

#[test]
fn redis_by_every_layer() {
    assert!(!Config::default().is_on_redis());
    let by_url = |config: Result<Config, String>| {
        let config = config.unwrap();
        assert!(config.is_on_redis());
        config.redis.url
    };
    assert_eq!(by_url(by_file(&format!("[redis]\nurl = '{URL}'"))).as_deref(), Some(URL));
    assert_eq!(by_url(by_env(&[("redis.url", URL)])).as_deref(), Some(URL));
    assert_eq!(by_url(by_flag(URL)).as_deref(), Some(URL));
    let (_folder, path) = file("[redis]\nurl = 'redis://file'\nprefix = 'app'\nwait = '1s'");
    let env = [(variable("redis.url"), "redis://env".to_owned()), (variable("redis.wait"), "2s".to_owned())];
    let sources =
        Sources::new(ENV_PREFIX).file(path).env(env).flag("redis.wait", "--wait-for-redis", Some("3s".into()));
    let redis = load(&sources).unwrap().redis;
    let url = Some("redis://env".to_owned());
    let expected =
        shared::redis::Settings { url, prefix: "app".into(), wait: Duration::from_secs(3), ..Default::default() };
    assert_eq!(redis, expected);
}

/// Everything but the password has a default, or means nothing yet: so one file serves with and without Redis.
#[test]
fn redis_settings_without_a_url() {
    let others =
        "[redis]\nprefix = 'app'\nwait = '30s'\nconnect_timeout = '1s'\ncommand_timeout = '1s'\nunready_after = '0s'";
    assert!(!by_file(others).unwrap().is_on_redis());
    assert!(!by_env(&[("redis.url", "")]).unwrap().is_on_redis(), "empty text is no URL");
    assert_eq!(reason("redis.password", "hunter2"), "there is no redis.url to use it for");
    let ca_file = "certificates are for rediss:// only, and redis.url does not begin so";
    assert_eq!(reason("redis.ca_file", "ca.pem"), ca_file);
    assert_eq!(reason("redis.prefix", "a:b"), "a key prefix is 1 to 32 of A-Z a-z 0-9 _ -");
}

#[test]
fn a_wrong_url_is_refused_with_its_place_and_without_its_password() {
    let shape = "a Redis URL is redis://[user[:password]@]host[:port], with rediss:// for TLS";
    for url in [
        "http://me:hunter2@host",
        "redis:/me:hunter2@host",
        "me:hunter2@host:6379",
        "redis://me:hunter2@host:99999",
        "redis://me:hunter2@host/x",
        "redis://me:hunter2@",
        "redis://me:hunter2@host?protocol=resp2",
        "redis://me:hunter2@host#insecure",
        "hunter2",
    ] {
        let by = [
            ("FILE", by_file(&format!("[redis]\nurl = '{url}'"))),
            ("SSE_GATEWAY__REDIS__URL", by_env(&[("redis.url", url)])),
            ("--redis-url", by_flag(url)),
        ];
        for (place, result) in by {
            let error = result.unwrap_err();
            assert!(error.starts_with(&format!("{place}: invalid value for \"redis.url\": ")), "{error}");
            assert!(error.contains(shape) || error.contains("a Redis URL has no "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn secrets_of_the_wrong_type_or_in_the_wrong_place_are_not_told() {
    let url = "redis://me:hunter2@host";
    for (text, key) in [
        (format!("redis = '{url}'"), "redis"),
        (format!("[redis]\nurl = ['{url}']"), "redis.url"),
        (format!("[redis]\nurl = {{ host = '{url}' }}"), "redis.url"),
        (format!("[redis]\nuri = '{url}'"), "redis.uri"),
        (format!("[redis]\nwait = '{url}'"), "redis.wait"),
        ("[redis]\npassword = ['hunter2']".to_owned(), "redis.password"),
        ("[redis]\npasword = 'hunter2'".to_owned(), "redis.pasword"),
        (format!("[redis]\nurl = '{url}"), "TOML error"),
        (format!("[redis]\nurl = {url}"), "TOML error"),
        (format!("[redis]\nurl = '{url}'\nurl = '{url}'"), "TOML error"),
    ] {
        let error = by_file(&text).unwrap_err();
        assert!(error.contains(key), "{key}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (key, value) in [("redis.wait", url), ("redis", url), ("redis.uri", url), ("redis.pasword", "hunter2")] {
        let error = by_env(&[(key, value)]).unwrap_err();
        assert!(error.contains(key) && !error.contains("hunter2"), "{error}");
    }
    let error = by_env(&[("redis.url", url), ("redis.password", "hunter3"), ("redis.prefix", "a:b")]).unwrap_err();
    assert!(!error.contains("hunter"), "{error}");
}

#[test]
fn no_secret_is_in_the_debug_text() {
    let config = by_env(&[("redis.url", "redis://me:hunter2@host"), ("redis.password", "hunter3")]).unwrap();
    let text = format!("{config:?}");
    assert!(text.contains("redis://me:***@host:6379") && !text.contains("hunter"), "{text}");
}

#[test]
fn a_password_of_digits_is_text_by_the_environment() {
    let config = by_env(&[("redis.url", URL), ("redis.password", "0123")]).unwrap();
    assert_eq!(config.redis.password.as_deref(), Some("0123"));
}

#[test]
fn the_demo_page_is_for_loopback_and_the_embedded_broker() {
    let shown = |settings: &[(&str, &str)], loopback| by_env(settings).unwrap().shows_demo(loopback);
    assert!(shown(&[], true));
    assert!(!shown(&[], false));
    assert!(!shown(&[("redis.url", URL)], true));
    for loopback in [true, false] {
        assert!(shown(&[("demo", "true")], loopback));
        assert!(shown(&[("demo", "true"), ("redis.url", URL)], loopback));
        assert!(!shown(&[("demo", "false")], loopback));
    }
}

#[test]
fn with_keys_for_tokens_any_address_will_do() {
    let secret = "x".repeat(32);
    for (key, value) in [("auth.secret", &*secret), ("auth.secret_file", "a"), ("auth.jwks_file", "b")] {
        assert!(by_env(&[("listen", "0.0.0.0:80"), (key, value)]).is_ok(), "{key}");
    }
    assert!(by_env(&[("listen", "0.0.0.0:80"), ("auth.operator_key", &secret)]).is_err(), "it is no key for tokens");
    let short = reason("auth.secret", "hunter2");
    assert_eq!(short, "it has 7 bytes, the least is 32");
}

#[test]
fn on_redis_an_open_port_is_for_reading() {
    let error = by_env(&[("listen", "0.0.0.0:80"), ("redis.url", URL)]).unwrap_err();
    assert!(
        error.contains("0.0.0.0:80 lets everybody who reaches it read, since there is no authentication"),
        "{error}"
    );
}

#[test]
fn channels() {
    let config =
        by_file("[[channels]]\nprefix = 'chat:'\nephemeral = true\n[[channels]]\nprefix = ''\nttl = '10m'").unwrap();
    let [chat, all] = config.channels.0.as_slice() else { panic!("{:?}", config.channels) };
    assert_eq!((&*chat.prefix, chat.ephemeral, chat.history, chat.ttl), ("chat:", true, None, None));
    assert_eq!((&*all.prefix, all.ephemeral, all.history, all.ttl), ("", false, None, Some(Duration::from_secs(600))));
}

#[test]
fn wrong_channels_are_told_with_their_place() {
    for (text, expected) in [
        (
            "[[channels]]\nprefix = 'a'\n[[channels]]\nprefix = 'a b'\nhistory = 1000001\nttl = '500ms'",
            "FILE: invalid value for \"channels[1].prefix\": no channel's name begins so: a channel name may not have ' ' \
             (no control characters, white space, '{', '}' or '*')\n\
             FILE: invalid value for \"channels[1].history\": 1000001 is not within 1 and 1000000\n\
             FILE: invalid value for \"channels[1].ttl\": 500ms is not within 1s and 366d",
        ),
        (
            "[[channels]]\nprefix = 'a'\n[[channels]]\nprefix = 'a'",
            "FILE: invalid value for \"channels[1].prefix\": channels[0] has the same prefix \"a\"",
        ),
        (
            "[[channels]]\nprefix = 'a'\nephemeral = true\nttl = '1m'",
            "FILE: invalid value for \"channels[0].ephemeral\": ephemeral events have no history, so neither history nor ttl \
             may be set with it",
        ),
        ("[[channels]]\nhistory = 1", "FILE: missing key \"channels[0].prefix\""),
        (
            "[[channels]]\nprefix = 'a'\n[[channels]]\nprefix = 'b'\nhistroy = 1",
            "FILE: unknown key \"channels[1].histroy\"; did you mean \"channels[1].history\"?",
        ),
        (
            "[[channels]]\nprefix = 'a'\nttl = 60\nhistory = 0\nephemeral = 'yes'",
            "FILE: invalid value for \"channels[0].ephemeral\": expected true or false, got \"yes\"\n\
             FILE: invalid value for \"channels[0].history\": expected an integer from 0 to 4294967295 but not 0, got 0\n\
             FILE: invalid value for \"channels[0].ttl\": expected a duration such as \"20s\", got 60",
        ),
        ("channels = 'a'", "FILE: invalid value for \"channels\": expected an array, got \"a\""),
        ("[channels]\nprefix = 'a'", "FILE: invalid value for \"channels\": expected an array, got a table"),
        ("channels = ['a']", "FILE: invalid value for \"channels[0]\": expected a table, got \"a\""),
    ] {
        assert_eq!(by_file(text), Err(expected.to_owned()), "{text}");
    }
    let expected = "SSE_GATEWAY__CHANNELS: \"channels\" is an array of tables, which can be set in a file only";
    assert_eq!(by_env(&[("channels", "a")]), Err(expected.to_owned()));
}
