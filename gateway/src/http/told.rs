//! What all nodes are told, carried out on this one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use publisher::orders::Hear;
use shared::auth::{Access, Token, Verifier};
use shared::channel::Channel;
use shared::order::{Order, Renewal, Revocation};
use tokio::sync::watch;

use crate::connection::{self, Passes, Renewed, Terms};
use crate::hub::Hub;

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
