//! What stands in `redis.url`: where Redis is, and as whom to go there.
//!
//! | form | leads to |
//! |---|---|
//! | `redis://[user[:password]@]host[:port]` | a single server |
//! | `redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/name` | the primary that these Sentinels know by that name |
//!
//! By TLS it is `rediss`, of servers and Sentinels alike; `valkey` and `valkeys` are the same. User and password are those of the
//! servers.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::client::describe;

const SERVER_SHAPE: &str = "a Redis URL is redis://[user[:password]@]host[:port], with rediss:// for TLS";
const SENTINEL_SHAPE: &str = "a Redis URL of Sentinels is redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/name, with rediss+sentinel:// \
     for TLS";
const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
const SENTINELS: &str = "+sentinel";
/// Of Redis, and of a Sentinel, where none is said.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Sentinels that one URL names, at most.
const MAX_SENTINELS: usize = 16;
/// Bytes of the name by which they know the primary.
const MAX_NAME: usize = 128;

/// What a URL leads to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// One server.
    Server(ConnectionInfo),
    /// Whatever server these say.
    Sentinels(Sentinels),
}

/// See [`Target`].
#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    /// Host and port of each, one at least.
    pub(super) places: Vec<(String, u16)>,
    /// By which they know the primary.
    pub(super) name: String,
    /// As whom, and whether by TLS, to go to the servers; its address is that of the first Sentinel.
    pub(super) server: ConnectionInfo,
}

/// Whether `url` asks for TLS.
pub(super) fn is_tls(url: &str) -> bool {
    scheme(url).is_some_and(|(scheme, _, _)| scheme.ends_with('s') && scheme != "redis")
}

/// Whether `url` names Sentinels.
pub(super) fn is_of_sentinels(url: &str) -> bool {
    scheme(url).is_some_and(|(_, of_sentinels, _)| of_sentinels)
}

/// The scheme without what it says of Sentinels, whether it does, and what stands behind it.
fn scheme(url: &str) -> Option<(&str, bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let plain = scheme.strip_suffix(SENTINELS);
    let scheme = plain.unwrap_or(scheme);
    SCHEMES.contains(&scheme).then_some((scheme, plain.is_some(), rest))
}

/// Whether `url` can be used, with the password `beside` it where there is one; the error holds nothing of it.
pub(super) fn check(url: &str, beside: Option<&str>) -> Result<(), String> {
    let of_sentinels = scheme(url).ok_or(SERVER_SHAPE)?.1;
    if url.contains('#') {
        return Err(
            "a Redis URL has no fragment; a # in a password is written %23, or the password goes into redis.password"
                .to_owned(),
        );
    }
    if url.contains('?') {
        return Err("a Redis URL has no query here: the protocol is chosen for each connection".to_owned());
    }
    let info = match parse(url)? {
        Target::Server(info) => info,
        Target::Sentinels(Sentinels { server, .. }) => server,
    };
    // A user goes nowhere without a password, and redis-cli takes the same text for a password, so it may be one.
    if is_user_alone(&info, beside) {
        let scheme = if of_sentinels { "redis+sentinel" } else { "redis" };
        return Err(format!(
            "a user has no password here: a password is written {scheme}://:PASSWORD@host, and that of a user \
             {scheme}://USER:PASSWORD@host, or it goes into redis.password"
        ));
    }
    match info.redis_settings().db() {
        0 => Ok(()),
        db => Err(format!(
            "a Redis URL has no database here, this one has {db}: Pub/Sub knows none, and two clusters would hear each \
             other; redis.prefix keeps them apart"
        )),
    }
}

/// Reads it. The error holds nothing of it.
pub(super) fn parse(url: &str) -> Result<Target, String> {
    let (scheme, of_sentinels, rest) = scheme(url).ok_or(SERVER_SHAPE)?;
    if !of_sentinels {
        return read(url, SERVER_SHAPE).map(Target::Server);
    }
    let (authority, name) = rest.rsplit_once('/').unwrap_or((rest, ""));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
        return Err(format!(
            "behind the last / stands no name of a primary, 1 to {MAX_NAME} of A-Z a-z 0-9 . - _; {SENTINEL_SHAPE}"
        ));
    }
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let count = hosts.split(',').count();
    if count > MAX_SENTINELS {
        return Err(format!("it names {count} Sentinels, the limit is {MAX_SENTINELS}"));
    }
    let infos = hosts.split(',').map(|host| read(&format!("{scheme}://{user}{at}{host}"), SENTINEL_SHAPE));
    let infos = infos.collect::<Result<Vec<_>, _>>()?;
    let places = infos.iter().zip(hosts.split(',')).map(|(info, text)| sentinel(info, text));
    let places = places.collect::<Option<Vec<_>>>().ok_or(SENTINEL_SHAPE)?;
    let server = infos.into_iter().next().ok_or(SENTINEL_SHAPE)?;
    Ok(Target::Sentinels(Sentinels { places, name: name.to_owned(), server }))
}

fn read(url: &str, shape: &str) -> Result<ConnectionInfo, String> {
    url.into_connection_info().map_err(|error| format!("{}; {shape}", describe(&error)))
}

/// Where a Sentinel is; `text` as it was written, which tells whether it has a port.
fn sentinel(info: &ConnectionInfo, text: &str) -> Option<(String, u16)> {
    let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr() else {
        return None;
    };
    let port = if *port == PORT && !text.ends_with(":6379") { SENTINEL_PORT } else { *port };
    Some((host.clone(), port))
}

fn is_user_alone(info: &ConnectionInfo, beside: Option<&str>) -> bool {
    let redis = info.redis_settings();
    redis.username().is_some() && redis.password().is_none() && beside.is_none_or(str::is_empty)
}

/// `url` with `***` for a password, or for a user who has none here nor `beside` it and so may be one, ports always there;
/// `redis` where it cannot be read, since then nobody knows what of it is secret.
pub(super) fn without_password(url: &str, beside: Option<&str>) -> String {
    let scheme = if is_tls(url) { "rediss" } else { "redis" };
    match parse(url) {
        Ok(Target::Server(info)) => {
            let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr() else {
                return "redis".to_owned();
            };
            let db = match info.redis_settings().db() {
                0 => String::new(),
                db => format!("/{db}"),
            };
            format!("{scheme}://{}{}{db}", user(&info, beside), host_and_port(host, *port))
        }
        Ok(Target::Sentinels(Sentinels { places, name, server })) => {
            let places: Vec<_> = places.iter().map(|(host, port)| host_and_port(host, *port)).collect();
            format!("{scheme}{SENTINELS}://{}{}/{name}", user(&server, beside), places.join(","))
        }
        Err(_) => "redis".to_owned(),
    }
}

fn user(info: &ConnectionInfo, beside: Option<&str>) -> String {
    let redis = info.redis_settings();
    match (redis.username(), redis.password()) {
        (Some(user), Some(_)) => format!("{user}:***@"),
        (Some(_), None) if is_user_alone(info, beside) => "***@".to_owned(),
        (Some(user), None) => format!("{user}@"),
        (None, Some(_)) => ":***@".to_owned(),
        (None, None) => String::new(),
    }
}

/// As in a URL.
pub(super) fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hide_passwords() {
        for (url, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
            ("redis://127.0.0.1:6399/2", "redis://127.0.0.1:6399/2"),
            ("redis://:hunter2@h", "redis://:***@h:6379"),
            ("redis://me:hunter2@h:1", "redis://me:***@h:1"),
            ("rediss://me:hunter2@h", "rediss://me:***@h:6379"),
            ("valkeys://h", "rediss://h:6379"),
            ("redis://[::1]:7", "redis://[::1]:7"),
            ("redis://me:hunter2@", "redis"),
            ("redis+sentinel://h/m", "redis+sentinel://h:26379/m"),
            ("redis+sentinel://me:hunter2@a:1,b,c:6379/m.1", "redis+sentinel://me:***@a:1,b:26379,c:6379/m.1"),
            ("rediss+sentinel://:hunter2@[::1]:7,[::2]/m", "rediss+sentinel://:***@[::1]:7,[::2]:26379/m"),
            ("valkey+sentinel://h/m", "redis+sentinel://h:26379/m"),
            ("redis+sentinel://me:hunter2@h", "redis"),
        ] {
            assert_eq!(without_password(url, None), shown, "{url}");
        }
        for (beside, shown) in
            [(Some("x"), "redis://me@h:6379"), (Some(""), "redis://***@h:6379"), (None, "redis://***@h:6379")]
        {
            assert_eq!(without_password("redis://me@h", beside), shown, "{beside:?}");
        }
    }

    #[test]
    fn a_user_without_a_password_may_be_a_password() {
        for url in
            ["redis://hunter2@h", "rediss://hunter2:@h:1", "valkey://hunter2@h", "redis+sentinel://hunter2@h,i/m"]
        {
            for beside in [None, Some("")] {
                let error = check(url, beside).unwrap_err();
                assert!(error.contains("://:PASSWORD@host"), "{url}: {error}");
                assert!(!error.contains("hunter2"), "{error}");
            }
            assert_eq!(check(url, Some("x")), Ok(()), "{url}");
        }
        for url in ["redis://:hunter2@h", "redis://me:hunter2@h", "redis://h", "redis+sentinel://me:hunter2@h/m"] {
            assert_eq!(check(url, None), Ok(()), "{url}");
        }
    }

    #[test]
    fn urls_that_are_none() {
        for url in [
            "",
            "127.0.0.1:6379",
            "http://h",
            "redis://",
            "redis://h:99999",
            "redis://h/x",
            "rediss://h#insecure",
            "redis://h?protocol=resp2",
            "redis://h/1",
            "redis+sentinel://h/m?x",
            "redis+sentinel://h:99999/m",
            "redis+sentinel://h,/m",
            "redis+sentinel:///m",
            "sentinel://h/m",
        ] {
            let error = check(url, None).unwrap_err();
            assert!(error.contains("a Redis URL "), "{url}: {error}");
        }
        for url in ["redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel://h/a b", "redis+sentinel://h/0/m/"] {
            let error = check(url, None).unwrap_err();
            assert!(error.starts_with("behind the last / stands no name of a primary, "), "{url}: {error}");
        }
        let many = check(&format!("redis+sentinel://{}/m", ["h"; 17].join(",")), None).unwrap_err();
        assert_eq!(many, "it names 17 Sentinels, the limit is 16");
        for url in
            ["redis://me:hunter2@h:99999", "redis+sentinel://me:hunter2@h:99999/m", "redis+sentinel://me:hunter2@h"]
        {
            let secret = check(url, None).unwrap_err();
            assert!(!secret.contains("hunter2"), "{secret}");
        }
    }

    #[test]
    fn tls_and_sentinels() {
        for (url, tls, sentinels) in [
            ("redis://h", false, false),
            ("rediss://h", true, false),
            ("valkey://h", false, false),
            ("valkeys://h", true, false),
            ("redis+sentinel://h/m", false, true),
            ("rediss+sentinel://h/m", true, true),
            ("http://h", false, false),
        ] {
            assert_eq!((is_tls(url), is_of_sentinels(url)), (tls, sentinels), "{url}");
        }
    }
}
