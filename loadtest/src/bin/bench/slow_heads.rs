//! Connections that never come to the end of a request's head, a byte now and then: what is called a slowloris.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Between two bytes of one connection.
const PAUSE: Duration = Duration::from_secs(5);
/// Opened at a time; more overflow the queue of those to be accepted.
const AT_ONCE: usize = 100;
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
const HEAD: &str = "GET /events?channel=slow HTTP/1.1\r\nHost: slow\r\nX-Slow: ";

/// A crowd of them. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct SlowHeads {
    count: usize,
    /// One each, until its connection is closed by the server.
    tasks: JoinSet<Result<(), String>>,
}

impl SlowHeads {
    /// Opens `count` on this port of 127.0.0.1. Their bytes are spread over [`PAUSE`].
    ///
    /// # Errors
    /// The server takes no more, or the system has no more.
    pub(crate) async fn open(port: u16, count: usize) -> Result<Self, String> {
        let files = count as u64 + 1_024;
        let limit = rlimit::increase_nofile_limit(files).map_err(|error| format!("the limit of files: {error}"))?;
        if count > 0 && limit < files {
            return Err(format!("{count} slow connections need {files} open files, and the system allows {limit}"));
        }
        let (mut tasks, mut opening) = (JoinSet::new(), JoinSet::new());
        let now = Instant::now();
        for number in 0..count {
            if opening.len() == AT_ONCE {
                take(&mut opening, &mut tasks, now, count).await?;
            }
            opening.spawn(
                async move { (number, timeout(CONNECTS_WITHIN, TcpStream::connect(("127.0.0.1", port))).await) },
            );
        }
        while !opening.is_empty() {
            take(&mut opening, &mut tasks, now, count).await?;
        }
        Ok(Self { count, tasks })
    }

    /// How many were held to the end.
    ///
    /// # Errors
    /// The server has closed some of them, or answered: then what was measured is something else.
    pub(crate) fn close(mut self) -> Result<usize, String> {
        match self.tasks.try_join_next() {
            None => Ok(self.count),
            Some(Ok(Err(error))) => Err(format!("a slow connection: {error}")),
            Some(_) => Err("the server closed slow connections before the time for a head was over".to_owned()),
        }
    }
}

type Opened = (usize, Result<std::io::Result<TcpStream>, tokio::time::error::Elapsed>);

/// Has one of those that are being opened begin its head.
async fn take(
    opening: &mut JoinSet<Opened>,
    tasks: &mut JoinSet<Result<(), String>>,
    begin: Instant,
    count: usize,
) -> Result<(), String> {
    let Some(Ok((number, opened))) = opening.join_next().await else { return Err("a task failed".to_owned()) };
    let opened = opened.map_err(|_| format!("slow connection {number} was not taken within {CONNECTS_WITHIN:?}"))?;
    let socket = opened.map_err(|error| format!("slow connection {number}: {error}"))?;
    tasks.spawn(drip(socket, begin + PAUSE.mul_f64(number as f64 / count as f64)));
    Ok(())
}

/// Sends a byte each [`PAUSE`] until the server closes the connection.
async fn drip(mut socket: TcpStream, begin: Instant) -> Result<(), String> {
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut next = begin;
    let mut said = [0; 1];
    for byte in HEAD.bytes().chain(std::iter::repeat(b'x')) {
        tokio::select! {
            () = sleep_until(next) => {}
            read = socket.read(&mut said) => match read {
                Ok(1..) => return Err("the server answered half a head".to_owned()),
                Ok(0) | Err(_) => return Ok(()),
            },
        }
        next += PAUSE;
        if socket.write_all(&[byte]).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
