//! What all nodes are told, carried out on this one; and what this one answers when all are asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use publisher::census::Myself;
use publisher::orders::Hear;
use shared::auth::{Access, Token, Verifier};
use shared::census::{Beat, Doing, Of};
use shared::channel::Channel;
use shared::order::{Order, Renewal, Revocation};
use tokio::sync::watch;

use crate::connection::{self, Gate, Passes, Renewed, Terms};
use crate::hub::Hub;
use crate::shutdown::Lifecycle;

/// Hears orders for the node.
pub struct Told {
    /// Whose channels are dismissed.
    pub hub: Arc<Hub>,
    /// Whose streams end, or go on.
    pub passes: Arc<Passes>,
    /// Who takes no token that was revoked.
    pub verifier: Arc<Verifier>,
    /// Told once revocations are known.
    pub begun: watch::Sender<bool>,
    /// What the node says of itself.
    pub word: Word,
}

/// What the node says of itself to others.
pub struct Word {
    node: String,
    /// Random, of this process.
    incarnation: String,
    /// Unix milliseconds.
    started: u64,
    /// Knows the open connections.
    gate: Arc<Gate>,
    lifecycle: Arc<Lifecycle>,
}

impl Word {
    /// Of a life that begins now.
    #[must_use]
    pub fn new(node: &str, gate: Arc<Gate>, lifecycle: Arc<Lifecycle>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            node: node.to_owned(),
            incarnation: format!("{:032x}", fastrand::u128(..)),
            started: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            gate,
            lifecycle,
        }
    }
}

impl Hear for Told {
    fn order(&self, order: Order) {
        match order {
            Order::DisconnectChannel { channel } => {
                tracing::info!(%channel, "disconnecting the streams of a channel");
                self.hub.dismiss(&channel);
            }
            Order::DisconnectUser { user } => {
                tracing::info!(user, "disconnecting the streams of a user");
                if let Ok(channel) = Channel::user(&user) {
                    self.hub.dismiss(&channel);
                }
                self.passes.disconnect(&user);
            }
            Order::Revoke(revocation) => {
                tracing::info!(token = revocation.token, user = revocation.user, "tokens are revoked");
                self.revoke(&[revocation]);
            }
            Order::Renew(renewal) => {
                renew(&self.passes, &self.verifier, &renewal);
            }
        }
    }

    fn revocations(&self, all: Vec<Revocation>) {
        self.revoke(&all);
        self.begun.send_replace(true);
    }

    fn myself(&self) -> Option<Myself> {
        let Word { node, incarnation, started, gate, lifecycle } = &self.word;
        let beat = Beat {
            node: node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: *started,
            state: if lifecycle.is_draining() { Doing::Draining } else { Doing::Serving },
            connections: gate.open() as u64,
            channels: self.hub.channels() as u64,
        };
        Some(Myself { incarnation: incarnation.clone(), beat })
    }

    fn asked(&self, of: &Of) -> Option<u64> {
        let connections = match of {
            Of::Channel(channel) => self.hub.connections(channel),
            Of::User(user) => {
                let channel = Channel::user(user).ok();
                let on_channel = channel.as_ref().map_or(0, |channel| self.hub.connections(channel));
                // Those on the user's channel are counted there already.
                let elsewhere = self
                    .passes
                    .count(user, |channels| channel.as_ref().is_none_or(|channel| !channels.contains(channel)));
                on_channel + elsewhere
            }
        };
        Some(connections as u64)
    }
}

impl Told {
    /// First no more tokens, then no more streams: one that is being opened finds either.
    fn revoke(&self, all: &[Revocation]) {
        let news = self.verifier.revoke(all, SystemTime::now());
        if !news.is_empty() {
            self.passes.revoke(&news);
        }
    }
}

/// A stream of this node goes on with the token of `renewal`, if that is still good.
pub(super) fn renew(passes: &Passes, verifier: &Verifier, renewal: &Renewal) -> Renewed {
    let (Some(number), Some(token)) = (connection::number(&renewal.connection), Token::restore(&renewal.token)) else {
        return Renewed::NotHere;
    };
    let Ok(token) = verifier.still_good(token, SystemTime::now()) else { return Renewed::Refused };
    let (terms, token) = (terms(&token, verifier.settings().leeway), Arc::new(token));
    let access = Access::Token(token.clone());
    let renewed = passes.renew(number, terms, |channel| access.may_read(channel));
    // Revoked since it was looked at. Whoever revokes it from now on finds the stream by it.
    if renewed == Renewed::Done && verifier.is_revoked(&token) {
        passes.revoke_one(number);
    }
    renewed
}

/// What of a token matters to a stream.
pub(super) fn terms(token: &Token, leeway: Duration) -> Terms {
    let text = |text: &Option<String>| text.as_deref().map(Box::from);
    Terms { user: text(&token.subject), token: text(&token.id), issued: token.issued, expires: token.expires + leeway }
}
