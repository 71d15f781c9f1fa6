//! The HTTP service as a whole: ports first, then Redis, then requests, and at the end everything in order.
//!
//! The end: readiness goes; the grace passes, so that load balancers notice; no more connections, questions and jobs are
//! taken; requests under way are answered, and answers and jobs finished. Those that would not be
//! in time are told to stop a little before the deadline, so that they can still say so. That deadline holds over all of
//! it, and a second signal ends the process at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use humantime::format_duration;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::auth::{self, LoadError, Verifier};
use shared::net::{Tls, TlsError, describe, max_sockets};
use shared::order::{Order, Revocation};
use shared::reload::{Reload, watch};
use shared::signals::{self, Signals};
use tokio::sync::watch as watch_channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Drain, resolve};
use crate::health::{self, Health};
use crate::http::auth::{Auth, authenticate};
use crate::http::problem::Problem;
use crate::http::{Cors, name_request, not_found, tell_client};
use crate::metrics::{AuthMetrics, tls_failed};
use crate::orders::{Hear, Orders as _};
use crate::producers::{LAST_WORDS, Producers, Seams};
use crate::server::{ServerSettings, bind, serve};
use crate::{Configured, ConnectError, Publisher, operator};

/// Open files kept for Redis, the operator port, logs and the runtime, whatever the clients do.
const RESERVED_FILES: u64 = 128;
/// How long a service that starts waits until it knows which tokens were revoked.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Why the service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error("cannot listen on {address}: {}; choose another with {flag}", describe(.source))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An address that cannot be resolved any more.
    #[error("{0}")]
    Address(String),
    /// The system refused something else.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Keys that verify tokens cannot be had.
    #[error(transparent)]
    Auth(#[from] LoadError),
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No Redis to work with.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A service whose ports are bound and which serves nothing yet.
pub struct Service {
    config: Config,
    verifier: Arc<Verifier>,
    public: TcpListener,
    admin: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Service {
    /// Reads the files of keys and binds both ports. `config` has been checked.
    ///
    /// # Errors
    /// [`ServeError::Auth`], [`ServeError::Tls`], [`ServeError::Listen`] and [`ServeError::Address`].
    pub fn bind(config: Config) -> Result<Self, ServeError> {
        let verifier = Arc::new(Verifier::load(&config.auth)?);
        let tls = Tls::load(&config.tls, &["http/1.1"])?;
        let public = listen(&config.listen, "--listen")?;
        let loopback = public.local_addr().is_ok_and(|address| address.ip().is_loopback());
        if !loopback && !config.insecure && !config.auth.is_set() {
            // A name that was loopback when the settings were checked, and is not any more.
            return Err(ServeError::Address(format!("{} is not loopback, and --insecure was not said", config.listen)));
        }
        let admin = listen(&config.admin_listen, "--admin-listen")?;
        Ok(Self { config, verifier, public, admin, tls })
    }

    /// Connects to Redis, hands the greeting to `say`, and serves until a signal. `Ok` after a signal, even if the deadline
    /// cut requests. SIGHUP has the parts of `reload` read again, and certificate and key.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn run(
        self,
        prometheus: PrometheusHandle,
        mut reload: Reload,
        say: impl FnOnce(&str),
    ) -> Result<(), ServeError> {
        let Self { config, verifier, public, admin, tls } = self;
        reload.add_keys(verifier.clone());
        let system = |what| move |source| ServeError::System { what, source };
        let (mut signals, hangups) = signals::install().map_err(system("catch signals"))?;
        let address = |listener: &TcpListener| listener.local_addr().map_err(system("tell a port"));
        let (public_address, admin_address) = (address(&public)?, address(&admin)?);
        let health = Arc::new(Health::new(config.redis.unready_after));
        operator::start(admin, health.clone(), prometheus, config.limits.write_timeout)
            .map_err(system("serve the operator port"))?;

        let settings = config.redis_settings();
        let publisher = tokio::select! {
            publisher = Publisher::connect(&settings) => publisher?,
            signal = signals.next() => {
                tracing::info!(signal, "stopped before Redis was reached");
                return Ok(());
            }
        };
        let listener = tokio::net::TcpListener::from_std(public).map_err(system("serve the port"))?;
        let failed = tls_failed();
        let settings = ServerSettings {
            write_timeout: config.limits.write_timeout,
            max_sockets: max_sockets(RESERVED_FILES),
            tls: tls.clone().map(|tls| (tls, failed)),
        };
        // Until the process ends, and nobody waits for them.
        let mut rereading = JoinSet::new();
        if let Some(tls) = tls {
            reload.add_tls(tls.clone());
            rereading.spawn(watch(tls));
        }
        rereading.spawn(reload.run(hangups));
        let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
        let producers = producers(&config, &publisher)?;
        // `check` has refused what is no origin.
        let cors = Cors::parse(&config.cors.allowed_origins).unwrap_or(Cors::Closed);
        let cookies = cors.clone();
        let auth = Auth::new(verifier.clone(), AuthMetrics::new(), move |origin| cookies.allows_credentials(origin));
        let router = router(&config, &publisher, &producers, auth, &cors);
        let served = serve(listener, router, settings, connections.clone(), stop.clone());
        let figures = producers.figures(stop.clone());
        let (known, mut begun) = watch_channel::channel(false);
        let hear = Arc::new(RevokedTokens { verifier: verifier.clone(), begun: known });
        let mut revocations = Arc::new(publisher.clone()).hear(hear, CancellationToken::new());
        if verifier.is_set() {
            let known = async {
                tokio::select! { () = &mut revocations => {}, _ = begun.wait_for(|begun| *begun) => {} }
            };
            if timeout(KNOWN_WITHIN, known).await.is_err() {
                tracing::warn!("which tokens were revoked is not known yet, and tokens are taken all the same");
            }
        }
        health.start();
        verifier.tell();
        let scheme = if config.tls.is_set() { "https" } else { "http" };
        let public = format!("{scheme}://{public_address}");
        let (version, redis) = (env!("CARGO_PKG_VERSION"), publisher.client().address());
        tracing::info!(version, public, operator = %admin_address, redis, auth = verifier.is_set(), "serving");
        say(&greeting(&public, admin_address, publisher.client().address(), producers.answers()));

        let life = async {
            let signal = signals.next().await;
            let (grace, deadline) = (format_duration(config.drain.grace), format_duration(config.drain.deadline));
            tracing::info!(signal, open = connections.len(), %grace, %deadline, "stopping");
            health.drain();
            end(&config.drain, &connections, &stop, &producers, &mut signals).await;
        };
        // The second never ends: connections go on while `life` waits for them.
        tokio::select! {
            () = life => {}
            _ = async { tokio::join!(served, figures, health::watch(&health, &publisher), auth::watch(verifier), revocations) } => {}
        }
        Ok(())
    }
}

/// Stops in order, and in time.
async fn end(
    drain: &Drain,
    connections: &TaskTracker,
    stop: &CancellationToken,
    producers: &Producers,
    signals: &mut Signals,
) {
    let began = Instant::now();
    let deadline = began + drain.deadline;
    let requests = async {
        sleep(drain.grace).await;
        stop.cancel();
        tracing::info!(open = connections.len(), "the port is closed, and requests under way are answered");
        connections.close();
        connections.wait().await;
    };
    let last_words = deadline.checked_sub(LAST_WORDS.min(drain.deadline / 2)).unwrap_or(deadline);
    // Questions too are taken during the grace, while load balancers have not noticed.
    let answers = async {
        sleep(drain.grace).await;
        producers.end(last_words).await;
    };
    let drained = async { tokio::join!(requests, answers) };
    tokio::select! {
        result = timeout_at(deadline, drained) => match result {
            Ok(_) => tracing::info!(after = %whole_ms(began.elapsed()), "stopped"),
            Err(_) => tracing::warn!(open = connections.len(), "stopped at the deadline; connections were cut"),
        },
        signal = signals.next() => {
            tracing::warn!(signal, open = connections.len(), "stopped at once by a second signal");
        }
    }
}

/// Nobody reads what is finer.
fn whole_ms(time: Duration) -> humantime::FormattedDuration {
    format_duration(Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

/// Of what all nodes are told, this service heeds which tokens are good no longer.
struct RevokedTokens {
    verifier: Arc<Verifier>,
    /// Told once all are known.
    begun: watch_channel::Sender<bool>,
}

impl Hear for RevokedTokens {
    fn order(&self, order: Order) {
        if let Order::Revoke(revocation) = order {
            self.verifier.revoke(&[revocation], SystemTime::now());
        }
    }

    fn revocations(&self, all: Vec<Revocation>) {
        self.verifier.revoke(&all, SystemTime::now());
        self.begun.send_replace(true);
    }
}

/// Answers where they are switched on, and the demo.
fn producers(config: &Config, publisher: &Publisher) -> Result<Producers, ServeError> {
    let publisher = Arc::new(publisher.clone());
    let publish = Arc::new(Configured::new(publisher.clone(), config.channels.clone()));
    let seams = Seams { publish, bare: publisher.clone(), channels: publisher.clone(), cancel: publisher };
    // It was checked with the settings.
    Producers::new(seams, &config.chat, config.demo)
        .map_err(|reason| ServeError::Address(format!("chat.upstream: {reason}")))
}

fn router(config: &Config, publisher: &Publisher, producers: &Producers, auth: Arc<Auth>, cors: &Cors) -> Router {
    let needs_key = auth.has_operator();
    let publisher = Arc::new(publisher.clone());
    let publish = Configured::new(publisher.clone(), config.channels.clone());
    let limits = config.limits.of_routes();
    let routes =
        crate::http::router(Arc::new(publish), publisher.clone(), publisher.clone(), publisher.clone(), limits);
    // The deadline is for heads: a stream goes on behind its own.
    let router = routes
        .merge(crate::http::node_routes(publisher.clone(), publisher, needs_key, limits))
        .merge(producers.router(config.limits.max_url))
        .layer(from_fn_with_state(auth, authenticate))
        .layer(from_fn_with_state(Arc::new(config.limits.proxies()), tell_client))
        .fallback(not_found)
        .layer(from_fn_with_state(config.limits.request_timeout, deadline));
    cors.apply(router, &[Method::GET, Method::POST, Method::DELETE]).layer(from_fn(name_request))
}

/// Refuses, 408, what is not answered in time.
async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "request timeout")
            .detail(format!("the request was not read and carried out within {}", format_duration(limit)))
            .into_response(),
    }
}

/// What to type next.
fn greeting(public: &str, admin: SocketAddr, redis: &str, chat: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let ask = format!(
        "\n  chat      curl -N '{public}/chat' -H 'Content-Type: application/json' -d '{{\"question\":\"What is SSE?\"}}'"
    );
    format!(
        "sse-publisher {version}: publishes by HTTP to {redis}\n  \
         publish   curl '{public}/publish' -H 'Content-Type: application/json' \\\n              \
         -d '{{\"channel\":\"user:42\",\"event\":\"notification\",\"data\":{{\"message\":\"hi\"}}}}'{}\n  \
         operate   http://{admin}/metrics (and /livez, /readyz)",
        if chat { &*ask } else { "" }
    )
}

fn listen(address: &str, flag: &'static str) -> Result<TcpListener, ServeError> {
    let address = resolve(address).map_err(ServeError::Address)?;
    bind(address).map_err(|source| ServeError::Listen { address, flag, source })
}
