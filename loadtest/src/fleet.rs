//! The processes that read: starts them, tells them what to do, adds up what they tell, and notices when one is gone. It must
//! not publish, and it decides nothing about the run.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::worker;
use crate::worker::message::{Account, Answer, Command, Plan, Stats};

/// How often a condition over all processes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a process may take to take a command, or to tell its account.
const PATIENCE: Duration = Duration::from_secs(60);
/// Accounts on their way: each process has one.
const ACCOUNTS: usize = 64;

/// All processes that read.
#[derive(Debug)]
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
    accounts: mpsc::Receiver<(usize, Account)>,
    /// Reads what each process tells.
    _listening: JoinSet<()>,
}

#[derive(Debug)]
struct Worker {
    plan: Plan,
    stdin: ChildStdin,
    /// Killed when dropped.
    child: Child,
}

/// Written by those who listen to processes, read by whoever waits.
#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// An entry a process: what it told last.
    stats: Vec<Stats>,
    /// Streams of `tokens` that opened and have no events yet, with their round; taken by the publisher. At most one a
    /// connection.
    ready: VecDeque<(u32, u32)>,
    /// The first process that is gone, and why.
    failure: Option<String>,
}

/// Reads stats and streams from another task.
#[derive(Debug, Clone)]
pub(crate) struct View(Arc<Shared>);

impl View {
    /// Summed over all processes.
    pub(crate) fn stats(&self) -> Stats {
        self.0.with(|state| {
            let mut sum = Stats::default();
            state.stats.iter().for_each(|stats| sum.add(stats));
            sum
        })
    }

    /// Waits until the sum of stats is as wanted. An error names the process that is gone.
    pub(crate) async fn until(&self, wanted: impl Fn(&Stats) -> bool) -> Result<(), String> {
        loop {
            self.check()?;
            if wanted(&self.stats()) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for nothing but the end of a process, and tells which.
    pub(crate) async fn gone(&self) -> String {
        match self.until(|_| false).await {
            Err(error) => error,
            Ok(()) => String::new(),
        }
    }

    /// An error once a process is gone.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.0.with(|state| state.failure.clone()).map_or(Ok(()), Err)
    }

    /// Takes the streams of `tokens` that opened since it was asked last.
    pub(crate) fn take_ready(&self) -> VecDeque<(u32, u32)> {
        self.0.with(|state| std::mem::take(&mut state.ready))
    }
}

#[cfg(test)]
impl View {
    /// Of no fleet, with some streams that opened.
    pub(crate) fn of_ready<const N: usize>(streams: [(u32, u32); N]) -> Self {
        let view = Self(Arc::default());
        view.add_ready(streams);
        view
    }

    /// More streams have opened.
    pub(crate) fn add_ready<const N: usize>(&self, streams: [(u32, u32); N]) {
        self.0.with(|state| state.ready.extend(streams));
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Fleet {
    /// Starts a process for each plan.
    pub(crate) async fn start(plans: Vec<Plan>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let (sender, accounts) = mpsc::channel(ACCOUNTS);
        let shared = Arc::new(Shared::default());
        shared.with(|state| state.stats = vec![Stats::default(); plans.len()]);
        let mut fleet = Self { workers: Vec::new(), shared, accounts, _listening: JoinSet::new() };
        for (number, plan) in plans.into_iter().enumerate() {
            let mut command = tokio::process::Command::new(&program);
            command.arg(worker::ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            // A Ctrl-C is for the process that was started by hand: the others end with it.
            #[cfg(unix)]
            command.process_group(0);
            let mut child = command.spawn().map_err(|error| format!("cannot start process {number}: {error}"))?;
            let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(format!("cannot start process {number}: no pipes"));
            };
            let name = format!("process {number} (connections {} to {})", plan.range.start, plan.range.end - 1);
            fleet._listening.spawn(listen(stdout, number, name, Arc::clone(&fleet.shared), sender.clone()));
            let line = line_of(&plan)?;
            fleet.workers.push(Worker { plan, stdin, child });
            fleet.write(number, &line).await?;
        }
        Ok(fleet)
    }

    /// For those who only look.
    pub(crate) fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }

    /// Summed over all processes.
    pub(crate) fn stats(&self) -> Stats {
        self.view().stats()
    }

    /// The connections that each process has begun.
    pub(crate) fn begun(&self) -> Vec<std::ops::Range<u32>> {
        let begun: Vec<u32> = self.shared.with(|state| state.stats.iter().map(|stats| stats.begun).collect());
        let ranges = self.workers.iter().map(|worker| worker.plan.range.start).zip(begun);
        ranges.map(|(start, begun)| start..start + begun).collect()
    }

    /// Process ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers.iter().filter_map(|worker| worker.child.id()).collect()
    }

    /// Tells all of them.
    pub(crate) async fn tell(&mut self, command: &Command) -> Result<(), String> {
        let line = line_of(command)?;
        for number in 0..self.workers.len() {
            self.write(number, &line).await?;
        }
        Ok(())
    }

    async fn write(&mut self, number: usize, line: &[u8]) -> Result<(), String> {
        let written = timeout(PATIENCE, self.workers[number].stdin.write_all(line)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failure_or(format!("cannot tell process {number} what to do: {error}")).await),
            Err(_) => Err(self.failure_or(format!("process {number} takes no command within {PATIENCE:?}")).await),
        }
    }

    /// The reason of the process that is gone, which is told a moment after its pipe broke; else what was seen.
    async fn failure_or(&self, seen: String) -> String {
        let told = timeout(Duration::from_secs(1), self.view().gone()).await;
        told.unwrap_or(seen)
    }

    /// Tells each what was published on its channels, `command_of` being asked for each plan, and waits for their accounts.
    pub(crate) async fn finish(
        &mut self,
        command_of: impl Fn(&Plan) -> Command,
    ) -> Result<(Vec<Account>, Stats), String> {
        for number in 0..self.workers.len() {
            let line = line_of(&command_of(&self.workers[number].plan))?;
            self.write(number, &line).await?;
        }
        let view = self.view();
        let mut accounts = Vec::with_capacity(self.workers.len());
        while accounts.len() < self.workers.len() {
            let next = tokio::select! {
                biased;
                next = timeout(PATIENCE, self.accounts.recv()) => next,
                error = view.gone() => return Err(error),
            };
            match next {
                Ok(Some((_, account))) => accounts.push(account),
                Ok(None) => return Err("the processes that read are gone".to_owned()),
                Err(_) => return Err(format!("a process that reads tells no account within {PATIENCE:?}")),
            }
        }
        Ok((accounts, self.stats()))
    }
}

fn line_of<T: serde::Serialize>(message: &T) -> Result<Vec<u8>, String> {
    let mut line = serde_json::to_vec(message).map_err(|error| format!("cannot write a message: {error}"))?;
    line.push(b'\n');
    Ok(line)
}

/// Takes in what one process tells, up to its end. An end before its account is a failure, which names the process.
async fn listen(
    stdout: ChildStdout,
    number: usize,
    name: String,
    shared: Arc<Shared>,
    accounts: mpsc::Sender<(usize, Account)>,
) {
    let mut lines = BufReader::new(stdout).lines();
    let failure = loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => break format!("{name} has ended by itself"),
            Err(error) => break format!("{name} cannot be heard: {error}"),
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Stats(stats)) => shared.with(|state| state.stats[number] = stats),
            Ok(Answer::Ready(streams)) => shared.with(|state| state.ready.extend(streams)),
            Ok(Answer::Account(account)) => {
                // Whoever does not wait for it any more has an error of its own.
                let _ = accounts.send((number, *account)).await;
                return;
            }
            Ok(Answer::Failed(error)) => break format!("{name}: {error}"),
            Err(error) => break format!("{name} tells nonsense: {error}"),
        }
    };
    shared.with(|state| _ = state.failure.get_or_insert(failure));
}
