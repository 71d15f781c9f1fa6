//! The gateway as a whole: everything is built and bound first, then served, then stopped in order. Every task is owned
//! here.

mod error;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use publisher::census::Census;
use publisher::orders::Orders;
use publisher::producers::{LAST_WORDS, Producers};
use shared::auth::{self, Verifier};
use shared::keys::Keys;
use shared::net::{Tls, max_sockets};
use shared::reload::{Reload, watch};
use shared::signals::{Hangups, Signals};
use tokio::sync::watch::channel as watch_channel;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::built::Built;
pub use self::error::AppError;
use self::operator::{Operator, Shown};
use self::telling::End;
use crate::broker::leases::Leases;
use crate::broker::redis::ConnectError;
use crate::broker::redis::leases::{Releases, keep};
use crate::broker::{Broker, InterestQueue, Sink};
use crate::config::{Config, Drain, resolve};
use crate::connection::{ConnectionSettings, Gate, KeepAliveSettings, Passes};
use crate::demo::tell_connections;
use crate::http::admin::Admin;
use crate::http::{self, Cors, Limits, Node, Told, Word};
use crate::hub::log::LogLimits;
use crate::hub::{Hub, HubSettings, ReplaySettings};
use crate::lane::{DirectPort, Heads, LaneSettings, TlsPort, bind, serve};
use crate::metrics::{ConnectionMetrics, HubMetrics, Lane, LimitMetrics, NodeMetrics};
use crate::shutdown::{DrainSettings, Lifecycle};

mod built;
mod limits;
mod operator;
mod telling;

/// How long a node that starts waits until it knows which tokens were revoked.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// A gateway that is bound, and of which only the operator port is served yet.
pub struct App {
    node: String,
    gate: Arc<Gate>,
    public: TcpListener,
    admin_address: SocketAddr,
    router: Router,
    verifier: Arc<Verifier>,
    orders: Arc<dyn Orders>,
    census: Arc<dyn Census>,
    told: Arc<Told>,
    hub: Arc<Hub>,
    interest: InterestQueue,
    broker: Arc<dyn Broker>,
    /// Users' leases, for limits and for presence, and what of them goes back to Redis.
    keeping: Vec<(Arc<Leases>, Releases)>,
    /// Those of the embedded broker.
    producers: Option<Producers>,
    /// What the demo's pages show of itself; all of it ends with `stop_demo`.
    demo: Vec<BoxFuture<'static, ()>>,
    stop_demo: CancellationToken,
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<NodeMetrics>,
    lane: LaneSettings,
    drain: DrainSettings,
    operator: Operator,
    /// What SIGHUP has read again.
    reload: Reload,
}

impl App {
    /// Binds both ports, serves the operator's, connects to Redis where that is the broker, and puts everything together.
    /// `config` has been checked. Whatever else can be read again while it runs is added to `reload`.
    ///
    /// # Errors
    /// [`AppError::Listen`], [`AppError::Address`], [`AppError::System`], [`AppError::Tls`], [`AppError::Redis`],
    /// [`AppError::Upstream`] and [`AppError::Auth`].
    pub async fn build(config: &Config, prometheus: PrometheusHandle, mut reload: Reload) -> Result<Self, AppError> {
        let verifier = Arc::new(Verifier::load(&config.auth)?);
        reload.add_keys(verifier.clone());
        let tls = Tls::load(&config.tls, &["h2", "http/1.1"])?;
        if let Some(tls) = &tls {
            reload.add_tls(tls.clone());
        }
        let public = listen(&config.listen, "--listen")?;
        let loopback = public.local_addr().is_ok_and(|address| address.ip().is_loopback());
        if !loopback && !config.insecure && !config.auth.is_set() {
            // A name that was loopback when the settings were checked, and is not any more.
            return Err(AppError::Address(format!("{} is not loopback, and --insecure was not said", config.listen)));
        }
        let admin_port = listen(&config.admin_listen, "--admin-listen")?;
        let admin_address =
            admin_port.local_addr().map_err(|source| AppError::System { what: "serve a port", source })?;

        let settings = connection_settings(config);
        let keys =
            if config.is_on_redis() { config.redis.keys().map_err(ConnectError::from)? } else { Keys::default() };
        let (hub, interest) = Hub::new(keys, hub_settings(config), HubMetrics::new());
        let lifecycle = Arc::new(Lifecycle::default());
        let metrics = Arc::new(NodeMetrics::new());
        metrics.takes(config.limits.max_connections);
        let [on_direct, on_hyper] = [Lane::Direct, Lane::Hyper].map(|lane| Arc::new(ConnectionMetrics::new(lane)));
        let limit_metrics = Arc::new(LimitMetrics::new());
        let lane = LaneSettings {
            write_timeout: config.limits.write_timeout,
            heads: Heads {
                most: config.limits.max_head,
                timeout: config.limits.head_timeout,
                metrics: limit_metrics.clone(),
            },
            max_sockets: max_sockets(limits::reserved_files(config)),
            direct: config.lanes.direct.then(|| DirectPort {
                loops: config.loops(),
                rest: config.lanes.rest,
                is_stream: http::is_stream,
            }),
            tls: tls.map(|tls| TlsPort { tls, failed: metrics.tls_failed.clone() }),
            peers: limits::peers(config, &limit_metrics),
        };
        let gate = Gate::new(config.limits.max_connections);
        let admin = Admin {
            hub: hub.clone(),
            lifecycle: lifecycle.clone(),
            prometheus,
            metrics: metrics.clone(),
            connections: [on_direct.clone(), on_hyper.clone()],
            unready_after: config.redis.unready_after,
        };
        let shown = Shown { config, node: &settings.node, gate: gate.clone(), verifier: verifier.clone() };
        // Before the broker, which may wait for Redis: probes are answered meanwhile.
        let operator = Operator::serve(admin_port, admin, &shown, lane.write_timeout, limit_metrics.clone())?;
        let shows_demo = config.shows_demo(loopback);
        let Built { broker, routes, orders, census, producers, carrier, registry, presence } =
            built::broker(config, &settings.node, shows_demo, verifier.has_operator()).await?;
        let (admission, keeping) = limits::admission(config, gate.clone(), registry, presence, &limit_metrics);
        let name = settings.node.clone();
        let (mut demo, stop_demo) = (Vec::new(), CancellationToken::new());
        if shows_demo {
            demo.push(tell_connections(name.clone(), gate.clone(), carrier, stop_demo.clone()).boxed());
            demo.extend(producers.iter().map(|producers| producers.figures(stop_demo.clone()).boxed()));
        }
        let cors = cors(config, loopback);
        let passes = Arc::new(Passes::default());
        let (hub_told, verifier_told) = (hub.clone(), verifier.clone());
        let begun = watch_channel(false).0;
        let told = Told {
            hub: hub_told,
            passes: passes.clone(),
            verifier: verifier_told,
            begun,
            word: Word::new(&settings.node, gate.clone(), lifecycle.clone()),
        };
        let node = Node {
            hub: hub.clone(),
            passes,
            orders: orders.clone(),
            verifier: verifier.clone(),
            auth: http::auth(verifier.clone(), &cors),
            connection: Arc::new(settings),
            admission,
            on_direct,
            on_hyper,
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
            limits: Limits {
                max_channels: config.limits.max_channels,
                max_url: config.limits.max_url,
                request_timeout: config.limits.request_timeout,
                open_timeout: config.limits.open_timeout,
                max_replay: config.replay.events,
            },
        };
        let router = http::router(Arc::new(node), routes, &cors, shows_demo);
        verifier.tell();
        let Drain { grace, deadline, .. } = config.drain;
        let drain = DrainSettings { grace, window: config.drain_window(), deadline };
        Ok(Self {
            node: name,
            gate,
            public,
            admin_address,
            router,
            verifier,
            orders,
            census,
            told: Arc::new(told),
            hub,
            interest,
            broker,
            keeping,
            producers,
            demo,
            stop_demo,
            lifecycle,
            metrics,
            lane,
            drain,
            operator,
            reload,
        })
    }

    /// Serves until a signal, then stops in order. `Ok` after a signal, even if the deadline cut streams.
    ///
    /// # Errors
    /// [`AppError::System`] at the start, [`AppError::Task`] when something essential ended by itself.
    pub async fn run(self, mut signals: Signals, hangups: Hangups) -> Result<(), AppError> {
        let (stop_accepting, stop_hub, stop_broker) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let mut tasks = JoinSet::new();
        let sink: Arc<dyn Sink> = self.hub.clone();
        tasks.spawn(self.broker.clone().run(self.interest, sink, stop_broker.clone()));
        tasks.spawn(self.hub.clone().run(self.broker, stop_hub.clone()));
        for (leases, releases) in self.keeping {
            tasks.spawn(keep(leases, releases, stop_broker.clone()));
        }
        let mut begun = self.told.begun.subscribe();
        tasks.spawn(self.orders.hear(self.told.clone(), stop_broker.clone()));
        if self.verifier.is_set() && tokio::time::timeout(KNOWN_WITHIN, begun.wait_for(|begun| *begun)).await.is_err() {
            tracing::warn!("which tokens were revoked is not known yet, and tokens are taken all the same");
        }
        // Until the process ends, and nobody waits for them.
        let mut rereading = JoinSet::new();
        rereading.spawn(self.operator.ask(self.census, self.told));
        rereading.spawn(self.reload.run(hangups));
        rereading.extend(self.lane.tls.iter().map(|port| watch(port.tls.clone())));
        rereading.spawn(auth::watch(self.verifier));
        let serving = serve(self.public, self.router, self.lane, connections.clone(), stop_accepting.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the public port is not served any more");
            }
        });
        // Apart from those without which there is no gateway.
        let mut demo: JoinSet<()> = self.demo.into_iter().collect();

        let signal = tokio::select! {
            signal = signals.next() => signal,
            ended = tasks.join_next() => return Err(ended_early(ended)),
        };
        let end = End::begin(&self.node, signal, &self.drain, self.gate.open());
        let deadline = Instant::now() + self.drain.deadline;
        self.lifecycle.drain(&self.metrics, self.drain.deadline);
        let drained = async {
            tokio::time::sleep(self.drain.grace).await;
            self.stop_demo.cancel();
            if let Some(producers) = &self.producers {
                // While there are still streams that hear what they say last. The broker is this process, and never away.
                let _ = tokio::time::timeout(LAST_WORDS, producers.end(Instant::now())).await;
            }
            stop_accepting.cancel();
            end.drains(self.gate.open());
            self.hub.close(Instant::now() + self.drain.window);
            connections.close();
            connections.wait().await;
            stop_hub.cancel();
            stop_broker.cancel();
            while tasks.join_next().await.is_some() {}
            while demo.join_next().await.is_some() {}
        };
        tokio::select! {
            result = tokio::time::timeout_at(deadline, drained) => end.is_over(result.is_ok(), connections.len()),
            signal = signals.next() => end.is_cut(signal, connections.len()),
        }
        self.operator.end().await;
        Ok(())
    }
}

fn listen(address: &str, flag: &'static str) -> Result<TcpListener, AppError> {
    let address = resolve(address).map_err(AppError::Address)?;
    bind(address).map_err(|source| AppError::Listen { address, flag, source })
}

fn ended_early(ended: Option<Result<(), JoinError>>) -> AppError {
    match ended {
        Some(Err(error)) => AppError::Task(error.to_string()),
        Some(Ok(())) | None => AppError::Task("it returned".to_owned()),
    }
}

fn hub_settings(config: &Config) -> HubSettings {
    let log = &config.log;
    HubSettings {
        log: LogLimits { events: log.events, bytes: log.bytes, age: log.age },
        linger: log.linger,
        replay: ReplaySettings { limits: limits::past(config), max_bytes: config.replay.max_bytes },
    }
}

fn connection_settings(config: &Config) -> ConnectionSettings {
    ConnectionSettings {
        node: config.node.clone().unwrap_or_else(|| format!("node-{:08x}", fastrand::u32(..))),
        retry: config.retry,
        keep_alive: KeepAliveSettings { interval: config.keep_alive, event: config.heartbeat_event.clone() },
        max_lifetime: config.max_lifetime(),
    }
}

/// On loopback everybody may read where nothing else is said and nobody is asked who they are: a page of any development
/// server.
fn cors(config: &Config, loopback: bool) -> Cors {
    match Cors::parse(&config.cors.allowed_origins) {
        Ok(Cors::Closed) if loopback && !config.auth.is_set() => Cors::Any,
        Ok(cors) => cors,
        // `check` has refused it.
        Err(_) => Cors::Closed,
    }
}
