//! What stands in `redis.url`: where Redis is, and as whom to go there.
//!
//! | form | leads to |
//! |---|---|
//! | `redis://[user[:password]@]host[:port]` | a single server |
//! | `redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/name` | the primary that these Sentinels know by that name |
//! | `redis+cluster://[user[:password]@]host[:port][,host[:port]...]` | the Redis Cluster of which these are some nodes |
//!
//! By TLS it is `rediss`, of servers and Sentinels alike; `valkey` and `valkeys` are the same. User and password are those of the
//! servers.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::client::describe;

const SERVER_SHAPE: &str = "a Redis URL is redis://[user[:password]@]host[:port], with rediss:// for TLS";
const SENTINEL_SHAPE: &str = "a Redis URL of Sentinels is redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/name, with rediss+sentinel:// \
     for TLS";
const CLUSTER_SHAPE: &str = "a Redis URL of a Cluster is redis+cluster://[user[:password]@]host[:port][,host[:port]...], with rediss+cluster:// \
     for TLS";
const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
const SENTINELS: &str = "+sentinel";
const CLUSTER: &str = "+cluster";
/// Of Redis, and of a Sentinel, where none is said.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Sentinels, or nodes of a Cluster, that one URL names, at most.
const MAX_PLACES: usize = 16;
/// Bytes of the name by which they know the primary.
const MAX_NAME: usize = 128;

/// What a URL leads to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// One server.
    Server(ConnectionInfo),
    /// Whatever server these say.
    Sentinels(Sentinels),
    /// Servers that share the data among them.
    Cluster(Cluster),
}

/// See [`Target`].
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// Host and port of each that is named, one at least.
    pub(super) places: Vec<(String, u16)>,
    /// As whom, and whether by TLS, to go to the servers; its address is that of the first.
    pub(super) server: ConnectionInfo,
}

/// How a URL leads to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    Sentinels,
    Cluster,
}

impl Kind {
    /// What stands behind the scheme.
    fn suffix(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Sentinels => SENTINELS,
            Self::Cluster => CLUSTER,
        }
    }

    fn shape(self) -> &'static str {
        match self {
            Self::One => SERVER_SHAPE,
            Self::Sentinels => SENTINEL_SHAPE,
            Self::Cluster => CLUSTER_SHAPE,
        }
    }
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
    scheme(url).is_some_and(|(_, kind, _)| kind == Kind::Sentinels)
}

/// Whether `url` names nodes of a Cluster.
pub(super) fn is_of_cluster(url: &str) -> bool {
    scheme(url).is_some_and(|(_, kind, _)| kind == Kind::Cluster)
}

/// The scheme alone, how it leads to servers, and what stands behind it.
fn scheme(url: &str) -> Option<(&str, Kind, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let kinds = [Kind::Sentinels, Kind::Cluster];
    let named = kinds.into_iter().find_map(|kind| Some((scheme.strip_suffix(kind.suffix())?, kind)));
    let (scheme, kind) = named.unwrap_or((scheme, Kind::One));
    SCHEMES.contains(&scheme).then_some((scheme, kind, rest))
}

/// Whether `url` can be used, with the password `beside` it where there is one; the error holds nothing of it.
pub(super) fn check(url: &str, beside: Option<&str>) -> Result<(), String> {
    let kind = scheme(url).ok_or(SERVER_SHAPE)?.1;
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
        Target::Sentinels(Sentinels { server, .. }) | Target::Cluster(Cluster { server, .. }) => server,
    };
    // A user goes nowhere without a password, and redis-cli takes the same text for a password, so it may be one.
    if is_user_alone(&info, beside) {
        let scheme = format!("redis{}", kind.suffix());
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
    let (scheme, kind, rest) = scheme(url).ok_or(SERVER_SHAPE)?;
    match kind {
        Kind::One => read(url, SERVER_SHAPE).map(Target::Server),
        Kind::Sentinels => {
            let (authority, name) = rest.rsplit_once('/').unwrap_or((rest, ""));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
                return Err(format!(
                    "behind the last / stands no name of a primary, 1 to {MAX_NAME} of A-Z a-z 0-9 . - _; {SENTINEL_SHAPE}"
                ));
            }
            let (places, server) = several(scheme, kind, authority, SENTINEL_PORT)?;
            Ok(Target::Sentinels(Sentinels { places, name: name.to_owned(), server }))
        }
        Kind::Cluster => {
            let (places, server) = several(scheme, kind, rest.strip_suffix('/').unwrap_or(rest), PORT)?;
            Ok(Target::Cluster(Cluster { places, server }))
        }
    }
}

/// The places that stand in `authority`, with `port` where none is said, and as whom to go to the servers.
fn several(
    scheme: &str,
    kind: Kind,
    authority: &str,
    port: u16,
) -> Result<(Vec<(String, u16)>, ConnectionInfo), String> {
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    let count = hosts.split(',').count();
    if count > MAX_PLACES {
        let what = if kind == Kind::Sentinels { "Sentinels" } else { "nodes" };
        return Err(format!("it names {count} {what}, the limit is {MAX_PLACES}"));
    }
    let infos = hosts.split(',').map(|host| read(&format!("{scheme}://{user}{at}{host}"), kind.shape()));
    let infos = infos.collect::<Result<Vec<_>, _>>()?;
    let places = infos.iter().zip(hosts.split(',')).map(|(info, text)| place(info, text, port));
    let places = places.collect::<Option<Vec<_>>>().ok_or(kind.shape())?;
    let server = infos.into_iter().next().ok_or(kind.shape())?;
    Ok((places, server))
}

fn read(url: &str, shape: &str) -> Result<ConnectionInfo, String> {
    url.into_connection_info().map_err(|error| format!("{}; {shape}", describe(&error)))
}

/// Where one is; `text` as it was written, which tells whether it has a port.
fn place(info: &ConnectionInfo, text: &str, default: u16) -> Option<(String, u16)> {
    let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr() else {
        return None;
    };
    let port = if *port == PORT && !text.ends_with(":6379") { default } else { *port };
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
            format!("{scheme}{SENTINELS}://{}{}/{name}", user(&server, beside), list(&places))
        }
        Ok(Target::Cluster(Cluster { places, server })) => {
            format!("{scheme}{CLUSTER}://{}{}", user(&server, beside), list(&places))
        }
        Err(_) => "redis".to_owned(),
    }
}

fn list(places: &[(String, u16)]) -> String {
    places.iter().map(|(host, port)| host_and_port(host, *port)).collect::<Vec<_>>().join(",")
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
            ("redis+cluster://h", "redis+cluster://h:6379"),
            ("valkeys+cluster://me:hunter2@a:1,b/", "rediss+cluster://me:***@a:1,b:6379"),
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
            "redis+cluster://h/1",
            "redis+cluster://h,,i",
            "redis+cluster://h#1",
            "redis+cluster://",
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
        let many = check(&format!("redis+cluster://{}", ["h"; 17].join(",")), None).unwrap_err();
        assert_eq!(many, "it names 17 nodes, the limit is 16");
        for url in
            ["redis://me:hunter2@h:99999", "redis+sentinel://me:hunter2@h:99999/m", "redis+sentinel://me:hunter2@h"]
        {
            let secret = check(url, None).unwrap_err();
            assert!(!secret.contains("hunter2"), "{secret}");
        }
    }

    #[test]
    fn tls_sentinels_and_clusters() {
        for (url, tls, sentinels, cluster) in [
            ("redis://h", false, false, false),
            ("rediss://h", true, false, false),
            ("valkey://h", false, false, false),
            ("valkeys://h", true, false, false),
            ("redis+sentinel://h/m", false, true, false),
            ("rediss+sentinel://h/m", true, true, false),
            ("redis+cluster://h", false, false, true),
            ("rediss+cluster://h,i", true, false, true),
            ("http://h", false, false, false),
        ] {
            let is = (is_tls(url), is_of_sentinels(url), is_of_cluster(url));
            assert_eq!(is, (tls, sentinels, cluster), "{url}");
        }
    }
}
