//! Tells one user something, and says whether anybody was there to hear it.
//!
//! ```sh
//! cargo run -p publisher --example notify -- redis://127.0.0.1:6379 42 'you have mail'
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // Printing is what it is for.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use publisher::{Event, Publisher};
use shared::channel::Channel;
use shared::redis::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [url, user, message] = &args[..] else {
        eprintln!("usage: notify REDIS_URL USER MESSAGE");
        return ExitCode::from(2);
    };
    match notify(url, user, message).await {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("notify: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn notify(url: &str, user: &str, message: &str) -> Result<String, Box<dyn Error>> {
    // A backend connects once, and keeps the publisher.
    let publisher = Publisher::connect(&Settings::new(url)).await?;
    let event = Event::text(message).named("notification");
    let receipt = publisher.publish(&Channel::user(user)?, event).await?;
    Ok(match receipt.receivers {
        0 => format!("nobody is connected as user {user}; the event is kept in history"),
        nodes => format!("user {user} is connected to {nodes} gateway node(s)"),
    })
}
