//! `relay`: the service with an upstream that answers.

use clap::Parser;

use super::{Failure, serve};

/// Serve answers that stream in, from an endpoint that speaks OpenAI's format, until SIGTERM or Ctrl-C.
///
/// Example: sse-publisher relay --upstream http://127.0.0.1:11434/v1/chat/completions --model llama3.2
///
/// The same as serve with the setting chat.upstream: POST /chat takes a question, and the answer goes to a channel of its own.
/// A token for the endpoint is the variable SSE_PUBLISHER__CHAT__KEY; everybody on the machine sees flags.
#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The endpoint that answers, to the letter: http://host[:port]/v1/chat/completions, or https://
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// What it is to answer with [default: default]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    flags: serve::Flags,
}

impl Args {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let sources = self.flags.sources();
        let sources = sources.flag("chat.upstream", "--upstream", Some(self.upstream.clone()));
        serve::serve(&sources.flag("chat.model", "--model", self.model.clone()))
    }
}
