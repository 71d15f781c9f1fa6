//! The processes that read: none outlives the run, and one that is gone is named.

use testkit::eventually;
use tokio::process::Child;

use super::program::{outcome, start};
use super::server::Server;

/// Processes whose parent this is, by /proc.
fn children(parent: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        // The name in brackets may hold anything.
        let stat = stat(*pid);
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        fields.get(1).is_some_and(|field| *field == parent.to_string()) && fields[0] != "Z"
    };
    pids.filter(is_child).collect()
}

fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// A long run with 10 connections in 2 processes, all open.
async fn long_run(server: &Server) -> (Child, Vec<u32>) {
    let child = start(&[
        "--url",
        &server.url,
        "--connections",
        "10",
        "--processes",
        "2",
        "--duration",
        "10m",
        "--idle",
        "10ms",
    ]);
    eventually("all streams", async || (server.streams() == 10).then_some(())).await;
    let readers = children(child.id().unwrap());
    assert_eq!(readers.len(), 2);
    (child, readers)
}

fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn one_that_is_killed_ends_the_run_with_its_name_and_the_others() {
    let server = Server::correct().await;
    let (child, readers) = long_run(&server).await;
    kill(readers[1], "KILL");
    let outcome = outcome(child).await;
    assert_eq!(outcome.code, Some(1));
    let named = ["process 0 (connections 0 to 4)", "process 1 (connections 5 to 9)"];
    assert!(
        named.iter().any(|name| outcome.errors == format!("error: {name} has ended by itself\n")),
        "{}",
        outcome.errors
    );
    for pid in readers {
        eventually("the end of a reader", async || (!is_there(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn none_outlives_a_run_that_is_killed() {
    let server = Server::correct().await;
    let (mut child, readers) = long_run(&server).await;
    child.kill().await.unwrap();
    for pid in readers {
        eventually("the end of a reader", async || (!is_there(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn an_interrupt_ends_it_with_the_report() {
    let server = Server::correct().await;
    let (child, _) = long_run(&server).await;
    eventually("some events", async || (server.events() > 2).then_some(())).await;
    kill(child.id().unwrap(), "INT");
    let outcome = outcome(child).await;
    assert_eq!((outcome.code, outcome.number("/connections/opened")), (Some(0), 10), "{outcome:#?}");
    assert_eq!(outcome.report["reasons"][0], "interrupted: a part of what was asked for");
    assert_eq!(outcome.faults(), [0; 5]);
}
