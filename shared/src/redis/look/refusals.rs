//! Which commands a server would not take, and whether that is about who asks or about the server as it stands.

use std::fmt::{self, Display};

use redis::{Cmd, RedisError, RedisResult, Value};

use super::super::client::{describe, first_error, is_not_permitted};
use super::super::functions::is_unknown_command;
use super::super::server::Server;
use super::{Finding, command};

/// Of some commands those that the server would not take.
#[derive(Default)]
pub(super) struct Refusals {
    /// That this user may not, or that the server does not know, each as `GET sse.clock (NOPERM ...)`.
    pub(super) of_user: Vec<String>,
    /// That it takes from nobody as it stands.
    pub(super) by_state: Vec<Refusal>,
}

/// A command that a server takes from nobody as it stands.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Such as `NOREPLICAS`.
    pub(super) code: String,
    /// Such as `SET sse.clock x`.
    pub(super) command: String,
    /// Such as `NOREPLICAS Not enough good replicas to write`.
    pub(super) said: String,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.command, self.said)
    }
}

impl Refusal {
    /// What it means where nothing has to be loaded: telling the time is a write, which a full memory alone does not hinder.
    pub(super) fn finding(self) -> Finding {
        match &*self.code {
            // In a transaction such a server takes nothing at all, whichever command it was.
            "OOM" => {
                Finding::Warning(format!("writing: {}: durable events are refused until there is room", self.said))
            }
            // Of the command itself, such as one that this kind of server does not take in a transaction.
            "ERR" => Finding::Warning(format!("asking: {self}: it cannot be told whether this may be done")),
            _ => {
                Finding::Unfit(format!("writing: {self}: no durable event is published, and no gateway becomes ready"))
            }
        }
    }
}

/// Asks on a connection of its own, whose end is that of the transaction.
pub(super) async fn refused(server: &Server, commands: &[Cmd]) -> Result<Refusals, RedisError> {
    let mut refusals = Refusals::default();
    if commands.is_empty() {
        return Ok(refusals);
    }
    let mut connection = server.connect().await?;
    // By itself: without it the others would be carried out.
    command("MULTI").exec_async(&mut connection).await?;
    let mut pipe = redis::pipe();
    commands.iter().for_each(|command| _ = pipe.add_command(command.clone()));
    let answers: Vec<RedisResult<Value>> = pipe.ignore_errors().query_async(&mut connection).await?;
    for (answer, command) in answers.into_iter().zip(commands) {
        let Err(error) = answer else { continue };
        let error = first_error(&error);
        let code = error.code().unwrap_or("ERR").to_owned();
        // The key is on another server of the Cluster, and whether one may is looked at first.
        if code == "MOVED" {
            continue;
        }
        let refusal =
            Refusal { code, command: shown(command), said: describe(&error).trim_end_matches('.').to_owned() };
        if is_not_permitted(&error) || is_unknown_command(&error) {
            refusals.of_user.push(refusal.to_string());
        } else {
            refusals.by_state.push(refusal);
        }
    }
    Ok(refusals)
}

/// The first words of a command, as far as they name something.
fn shown(command: &Cmd) -> String {
    let words = command.args_iter().filter_map(|arg| match arg {
        redis::Arg::Simple(bytes) => std::str::from_utf8(bytes).ok().filter(|word| word.len() < 100),
        _ => None,
    });
    words.take(4).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_takes_from_nobody() {
        for (code, is_unfit) in
            [("NOREPLICAS", true), ("MISCONF", true), ("READONLY", true), ("OOM", false), ("ERR", false)]
        {
            let (command, said) = ("SET a x".to_owned(), format!("{code} why"));
            let finding = Refusal { code: code.to_owned(), command, said }.finding();
            assert_eq!(finding.is_unfit(), is_unfit, "{code}");
            assert!(!matches!(finding, Finding::Fine(_)), "{finding}");
        }
    }

    #[test]
    fn commands_are_shown_by_their_first_words() {
        assert_eq!(shown(&command("SET sse.functions 0 EX 60")), "SET sse.functions 0 EX");
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg("x".repeat(100));
        assert_eq!(shown(&load), "FUNCTION LOAD REPLACE");
    }
}
