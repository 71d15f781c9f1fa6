//! Whether a server will do, for people who ask before a start: its version, the functions, what the user may do, what the server
//! takes from nobody at the moment, and settings that lose events. Changes nothing there.
//!
//! All that is asked by a transaction that is never carried out: Redis refuses a command that is not permitted, or that it would
//! not take as it stands, when it is queued, and forgets all of them when the connection is closed.

mod refusals;

use std::fmt::{self, Display};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult};

use self::refusals::{Refusal, Refusals, refused};
use super::client::{Client, is_not_permitted};
use super::functions::{Functions, TEXT, is_unknown_command, library_version, our_version, script};
use super::server::Server;
use super::start::{Patience, StartError, check, check_push, classify};
use crate::keys::Keys;

/// Below so many bytes of its output buffer a subscriber is cut off after a pause of a few seconds at 10 MB/s.
const LEAST_BUFFER: u64 = 64 << 20;
/// The same for what may be there for a while.
const LEAST_SOFT_BUFFER: u64 = 16 << 20;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Fine(String),
    /// A start would work, and something else will not.
    Warning(String),
    /// A start would fail, or nothing would come of it.
    Unfit(String),
}

impl Finding {
    /// Whether the server will not do for this.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        matches!(self, Self::Unfit(_))
    }

    /// The same, of one server of several.
    fn of(self, server: &str) -> Self {
        match self {
            Self::Fine(text) => Self::Fine(format!("{server}: {text}")),
            Self::Warning(text) => Self::Warning(format!("{server}: {text}")),
            Self::Unfit(text) => Self::Unfit(format!("{server}: {text}")),
        }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match self {
            Self::Fine(text) => ("fine", text),
            Self::Warning(text) => ("warning", text),
            Self::Unfit(text) => ("error", text),
        };
        write!(f, "{word:8}  {text}")
    }
}

/// What a program does in Redis for one purpose.
pub struct Need {
    /// What for, in a few words: `reading histories`.
    purpose: &'static str,
    /// What becomes of it where one of the commands is not permitted; `None`: the program is of no use.
    without: Option<&'static str>,
    commands: Vec<Cmd>,
}

impl Need {
    /// What the program cannot do without.
    #[must_use]
    pub fn essential(purpose: &'static str, commands: Vec<Cmd>) -> Self {
        Self { purpose, without: None, commands }
    }

    /// What it can do without; `without` says what that means.
    #[must_use]
    pub fn useful(purpose: &'static str, without: &'static str, commands: Vec<Cmd>) -> Self {
        Self { purpose, without: Some(without), commands }
    }
}

/// One command, its words separated by spaces.
#[must_use]
pub fn command(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap_or_default());
    cmd.arg(words.collect::<Vec<_>>());
    cmd
}

/// Looks at the server that `client` leads to, or at each of a Cluster's that has partitions, waiting for it as a start does. `needs`
/// are asked for how the functions are called there. `hears`: the program hears what all nodes are told, by a subscription.
///
/// # Errors
/// [`StartError`], where a start would end with it.
pub async fn look(
    client: &Client,
    keys: &Keys,
    needs: impl Fn(&Functions) -> Vec<Need>,
    hears: bool,
) -> Result<Vec<Finding>, StartError> {
    let mut patience = Patience::new(client);
    let servers = loop {
        match servers(client).await {
            Err(error) => patience.wait(error).await?,
            Ok(servers) => break servers,
        }
    };
    let mut findings = Vec::new();
    if client.is_cluster() {
        let (servers, partitions) = (servers.len(), keys.partitions());
        findings.push(Finding::Fine(format!("Cluster: {servers} servers have the {partitions} partitions")));
    }
    for (partition, server) in &servers {
        let looked = look_at(client, server, keys, *partition, &needs, hears).await?;
        let name = |finding: Finding| if client.is_cluster() { finding.of(server.address()) } else { finding };
        findings.extend(looked.into_iter().map(name));
    }
    Ok(findings)
}

/// Those that can be connected to.
async fn servers(client: &Client) -> Result<Vec<(u16, Server)>, StartError> {
    let failed = |error: RedisError| classify(client, &error);
    let servers = client.servers().await.map_err(failed)?;
    for (_, server) in &servers {
        check(client, &mut server.connect().await.map_err(failed)?).await?;
    }
    Ok(servers)
}

/// At one server, which has `partition`.
async fn look_at(
    client: &Client,
    server: &Server,
    keys: &Keys,
    partition: u16,
    needs: &impl Fn(&Functions) -> Vec<Need>,
    hears: bool,
) -> Result<Vec<Finding>, StartError> {
    let failed = |error: RedisError| classify(client, &error);
    let mut connection = server.connect().await.map_err(failed)?;
    let version = check(client, &mut connection).await?;
    let mut findings = vec![Finding::Fine(format!("version {version}"))];
    if hears {
        check_push(client, server).await?;
    }
    // The last two are what the rest is asked by.
    for words in [&*format!("WATCH {}", keys.functions(partition)), "UNWATCH", "MULTI", "EXEC"] {
        command(words).exec_async(&mut connection).await.map_err(failed)?;
    }
    let library = library(&mut connection).await.map_err(failed)?;
    let functions = Functions::unseen(library != Library::NotHad).trusting(client.settings().trust_failover);
    let load = refused(server, &loading(keys, partition, library)).await.map_err(failed)?;
    let stops = load.by_state.first().filter(|_| library.is_due() && load.of_user.is_empty());
    findings.push(stops.map_or_else(|| library.finding(load.of_user.is_empty()), |stops| library.kept_out(stops)));
    let told = stops.map(|stops| stops.code.as_str());
    findings.extend(permissions(server, needs(&functions), told).await.map_err(failed)?);
    findings.push(eviction(&mut connection).await.map_err(failed)?);
    if hears {
        findings.push(output_buffer(&mut connection).await);
    }
    Ok(findings)
}

/// The functions as the server has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    /// It knows none: scripts serve.
    NotHad,
    /// This user may not see.
    Unseen,
    Absent,
    Version(u64),
}

async fn library(connection: &mut MultiplexedConnection) -> Result<Library, RedisError> {
    match library_version(connection).await {
        Ok(None) => Ok(Library::Absent),
        Ok(Some(version)) => Ok(Library::Version(version)),
        Err(error) if is_unknown_command(&error) => Ok(Library::NotHad),
        Err(error) if is_not_permitted(&error) => Ok(Library::Unseen),
        Err(error) => Err(error),
    }
}

/// What a start does to have the functions there.
fn loading(keys: &Keys, partition: u16, library: Library) -> Vec<Cmd> {
    if library == Library::NotHad {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script());
        return vec![load];
    }
    if !library.is_due() {
        return Vec::new();
    }
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg("REPLACE").arg(TEXT);
    vec![load, command(&format!("SET {} 0 EX 60", keys.functions(partition)))]
}

impl Library {
    /// Whether a start loads it by a transaction that writes, and ends where the server takes none. A script is none of the data:
    /// whatever the state of the server, it is taken.
    fn is_due(self) -> bool {
        self == Self::Absent || matches!(self, Self::Version(theirs) if theirs < our_version())
    }

    /// Of one that is due, and that the server would take from nobody.
    fn kept_out(self, refusal: &Refusal) -> Finding {
        let there = match self {
            Self::Version(theirs) => format!("version {theirs}"),
            _ => "none yet".to_owned(),
        };
        Finding::Unfit(format!("functions: {there}, and a start cannot load version {}: {refusal}", our_version()))
    }

    fn finding(self, may_load: bool) -> Finding {
        let ours = our_version();
        let load = "an administrator has to: redis-cli -x FUNCTION LOAD REPLACE < shared/src/redis/sse.lua";
        match (self, may_load) {
            (Self::Version(theirs), _) if theirs > ours => {
                Finding::Fine(format!("functions: version {theirs}, newer than {ours} of this program, and serves it"))
            }
            (Self::Version(theirs), _) if theirs == ours => Finding::Fine(format!("functions: version {theirs}")),
            (Self::Version(theirs), true) => {
                Finding::Fine(format!("functions: version {theirs}; a start replaces it by {ours}"))
            }
            (Self::Version(theirs), false) => Finding::Unfit(format!(
                "functions: version {theirs}, this program needs {ours}, and its user may not load them; {load}"
            )),
            (Self::Absent, true) => Finding::Fine(format!("functions: none yet; a start loads version {ours}")),
            (Self::Absent, false) => {
                Finding::Unfit(format!("functions: none, and this user may not load them; {load}"))
            }
            (Self::NotHad, true) => Finding::Fine("functions: this server has none, scripts serve".to_owned()),
            (Self::NotHad, false) => Finding::Unfit(
                "functions: this server has none, and its user may not load scripts (+script|load)".into(),
            ),
            (Self::Unseen, _) => Finding::Warning(format!(
                "functions: this user may not see which there are (+function|list); that version {ours} is loaded has to be \
                 somebody else's care"
            )),
        }
    }
}

/// What the user may not do, and what nobody may at the moment; `told`: the code of what was said of that already.
async fn permissions(server: &Server, needs: Vec<Need>, told: Option<&str>) -> Result<Vec<Finding>, RedisError> {
    let mut findings = Vec::new();
    let mut states: Vec<Refusal> = Vec::new();
    let mut asked = 0;
    for Need { purpose, without, commands } in needs {
        asked += commands.len();
        let Refusals { of_user, by_state } = refused(server, &commands).await?;
        for refusal in by_state {
            let is_new = told != Some(&refusal.code) && states.iter().all(|state| state.code != refusal.code);
            states.extend(is_new.then_some(refusal));
        }
        if of_user.is_empty() {
            continue;
        }
        let refused = of_user.join("; ");
        findings.push(match without {
            Some(without) => Finding::Warning(format!("{purpose}: {refused}: {without}")),
            None => Finding::Unfit(format!("{purpose}: {refused}")),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::Fine(format!("permissions: all of {asked} commands")));
    }
    findings.extend(states.into_iter().map(Refusal::finding));
    Ok(findings)
}

async fn eviction(connection: &mut MultiplexedConnection) -> Result<Finding, RedisError> {
    let memory: String = command("INFO memory").query_async(connection).await?;
    let value = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(match (value("maxmemory"), value("maxmemory_policy")) {
        (Some("0"), _) => Finding::Fine("memory: no maxmemory, so nothing is evicted".to_owned()),
        (_, Some("noeviction")) => Finding::Fine("memory: noeviction".to_owned()),
        (Some(most), Some(policy)) => Finding::Warning(format!(
            "memory: beyond maxmemory ({most} bytes) it evicts ({policy}), which loses events and what tells of them; set \
             maxmemory-policy noeviction"
        )),
        _ => Finding::Warning("memory: the server does not say whether it evicts, which loses events".to_owned()),
    })
}

/// Few may ask for it: what cannot be had is no fault.
async fn output_buffer(connection: &mut MultiplexedConnection) -> Finding {
    let answer: RedisResult<(String, String)> =
        command("CONFIG GET client-output-buffer-limit").query_async(connection).await;
    let limits = answer.ok().and_then(|(_, limits)| pubsub(&limits));
    let Some([hard, soft, seconds]) = limits else {
        return Finding::Fine(
            "output buffer: this user may not read client-output-buffer-limit; 256mb 64mb 60 is right for pubsub"
                .to_owned(),
        );
    };
    let text = format!("output buffer of subscribers: {hard} {soft} {seconds}");
    let is_small = |bytes: u64, least: u64| bytes != 0 && bytes < least;
    if is_small(hard, LEAST_BUFFER) || is_small(soft, LEAST_SOFT_BUFFER) {
        return Finding::Warning(format!(
            "{text}: a node that is a few seconds behind is cut off; set client-output-buffer-limit pubsub 256mb 64mb 60"
        ));
    }
    Finding::Fine(text)
}

/// Of `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60` what stands behind `pubsub`.
fn pubsub(limits: &str) -> Option<[u64; 3]> {
    let mut numbers = limits.split_whitespace().skip_while(|word| *word != "pubsub").skip(1).map(str::parse);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_functions() {
        let ours = our_version();
        let unfit = |library: Library, may_load| library.finding(may_load).is_unfit();
        for (library, with, without) in [
            (Library::Version(ours), false, false),
            (Library::Version(ours + 1), false, false),
            (Library::Version(ours - 1), false, true),
            (Library::Absent, false, true),
            (Library::NotHad, false, true),
            (Library::Unseen, false, false),
        ] {
            assert_eq!((unfit(library, true), unfit(library, false)), (with, without), "{library:?}");
        }
    }

    #[test]
    fn what_a_start_loads() {
        let ours = our_version();
        for (library, due) in [
            (Library::Absent, true),
            (Library::Version(ours - 1), true),
            (Library::Version(ours), false),
            (Library::Version(ours + 1), false),
            (Library::Unseen, false),
            (Library::NotHad, false),
        ] {
            assert_eq!(library.is_due(), due, "{library:?}");
            let commands = loading(&Keys::default(), 0, library).len();
            assert_eq!(commands, if due { 2 } else { usize::from(library == Library::NotHad) }, "{library:?}");
        }
    }

    #[test]
    fn what_cannot_be_loaded() {
        let (code, command, said) = ("OOM".to_owned(), "SET a x".to_owned(), "OOM why".to_owned());
        let older = Library::Version(1).kept_out(&Refusal { code, command, said });
        let ours = our_version();
        assert_eq!(
            older.to_string(),
            format!("error     functions: version 1, and a start cannot load version {ours}: SET a x (OOM why)")
        );
    }

    #[test]
    fn the_limit_of_subscribers() {
        let limits = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(pubsub(limits), Some([33_554_432, 8_388_608, 60]));
        assert_eq!(pubsub("normal 0 0 0"), None);
    }
}
