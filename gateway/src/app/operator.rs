//! The operator port: served on a thread of its own, from before the broker is reached to the end of the process, with what the status page
//! shows gathered beside it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use publisher::census::Census;
use publisher::orders::Hear;
use shared::auth::Verifier;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AppError;
use crate::config::Config;
use crate::connection::Gate;
use crate::http::OperatorAccess;
use crate::http::admin::{self, Admin};
use crate::lane::{Heads, LaneSettings, serve};
use crate::metrics::LimitMetrics;
use crate::status::{Feed, MAX_WATCHERS, Roll, Sources, gather};

/// How often the recorder empties its histograms' buffers.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Sockets of the port, beside those who watch: scrapes, probes and people. What more there is waits, and takes no file from the
/// streams.
const SOCKETS: usize = 32;
/// Whoever has asked nothing for so long makes room.
const IDLE: Duration = Duration::from_secs(10);
/// How long those who watch have to hear the end.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// What the status page shows beside what [`Admin`] knows.
pub(super) struct Shown<'a> {
    pub(super) config: &'a Config,
    pub(super) node: &'a str,
    pub(super) gate: Arc<Gate>,
    /// Knows the operator key.
    pub(super) verifier: Arc<Verifier>,
}

/// The port, as it is served.
pub(super) struct Operator {
    feed: Arc<Feed>,
    roll: Arc<Roll>,
    /// Its connections.
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Operator {
    /// Serves it until [`end`](Self::end).
    ///
    /// # Errors
    /// [`AppError::System`].
    pub(super) fn serve(
        listener: TcpListener,
        admin: Admin,
        shown: &Shown<'_>,
        write_timeout: Duration,
        metrics: Arc<LimitMetrics>,
    ) -> Result<Self, AppError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| AppError::System { what: "start the operator port", source })?;
        let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let operator = Self {
            feed: Feed::new(),
            roll: Arc::default(),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let access = OperatorAccess::new(shown.verifier.clone(), loopback);
        let admin = Arc::new(admin);
        let gathering = gather(operator.sources(admin.clone(), shown), operator.feed.clone());
        let prometheus = admin.prometheus.clone();
        let upkeep = async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                prometheus.run_upkeep();
            }
        };
        let router = admin::router(admin, operator.feed.clone(), access);
        let lane = LaneSettings {
            write_timeout,
            heads: Heads { timeout: IDLE, ..Heads::new(metrics) },
            max_sockets: SOCKETS + MAX_WATCHERS,
            direct: None,
            tls: None,
            peers: None,
        };
        let (connections, stop) = (operator.connections.clone(), operator.stop.clone());
        let serving = async move {
            if let Err(error) = serve(listener, router, lane, connections, stop).await {
                tracing::error!(%error, "the operator port is not served");
            }
        };
        let all = async move { tokio::join!(serving, upkeep, gathering) };
        let thread = std::thread::Builder::new().name("operator".to_owned()).spawn(move || runtime.block_on(all));
        thread.map_err(|source| AppError::System { what: "start the operator port", source })?;
        Ok(operator)
    }

    fn sources(&self, admin: Arc<Admin>, shown: &Shown<'_>) -> Sources {
        let Shown { config, node, gate, .. } = shown;
        let metrics = admin.clone();
        Sources {
            node: (*node).to_owned(),
            redis: config.redis.address(),
            max_connections: config.limits.max_connections,
            drain_deadline: config.drain.deadline,
            hub: admin.hub.clone(),
            gate: gate.clone(),
            lifecycle: admin.lifecycle.clone(),
            roll: self.roll.clone(),
            metrics: Box::new(move || metrics.render()),
            state: Box::new(move || admin.state()),
        }
    }

    /// Asks which nodes there are, until it is dropped. `hear` is what this node says of itself.
    pub(super) fn ask(
        &self,
        census: Arc<dyn Census>,
        hear: Arc<dyn Hear>,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.roll.clone().run(census, hear, self.feed.clone())
    }

    /// Ends the streams of those who watch, and the port. What is under way, such as a scrape, has a moment to finish.
    pub(super) async fn end(self) {
        self.feed.close();
        self.stop.cancel();
        self.connections.close();
        // Whoever reads too slowly is cut off.
        let _ = tokio::time::timeout(LAST_BYTES, self.connections.wait()).await;
    }
}
