//! Ctrl-C, once and twice.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What was asked for by hand.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// Begin and publish no more.
    pub(super) stop: CancellationToken,
    /// Do not wait for what is on its way either.
    pub(super) hurry: CancellationToken,
    _watch: JoinSet<()>,
}

impl Interrupts {
    /// Takes the signal over from the system, which would end the process.
    pub(super) fn watch() -> Self {
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let mut watch = JoinSet::new();
        let tokens = [stop.clone(), hurry.clone()];
        watch.spawn(async move {
            for token in tokens {
                if tokio::signal::ctrl_c().await.is_err() {
                    // Then the system ends the process at the signal, as it would any other.
                    return;
                }
                token.cancel();
            }
        });
        Self { stop, hurry, _watch: watch }
    }
}
