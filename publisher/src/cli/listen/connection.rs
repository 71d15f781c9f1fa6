//! One connection to an event stream: asks for it, follows redirects, and hands out its bytes.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cli::url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request to the answer's head: a gateway may wait for its channels.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A silent server is asked by the kernel whether it is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// As many as browsers follow.
const MAX_REDIRECTS: usize = 20;
/// What is read of a refusal.
const MAX_PROBLEM: usize = 64 << 10;
/// Most characters told of a refusal that is no problem details.
const MAX_TOLD: usize = 200;

/// What a request for a stream led to.
pub(super) enum Opened {
    Stream(Stream),
    /// 204.
    NoMore,
}

/// Why there is no stream.
pub(super) enum Stop {
    /// Trying again may help.
    Unreachable(String),
    /// It was answered, and the answer is no stream.
    Refused(String),
}

/// An open stream. Dropping it closes its connection.
pub(super) struct Stream {
    body: Incoming,
    /// The task that drives the connection.
    _driver: JoinSet<()>,
}

impl Stream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// Why the connection broke off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(format!("the connection broke off: {}", describe(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Asks for the stream at `first`, after the event with the id `last_event_id` if that is not empty. `token` goes to the host
/// and port of `first` alone, wherever it leads.
///
/// # Errors
/// [`Stop`].
pub(super) async fn open(first: &Url, last_event_id: &str, token: Option<&HeaderValue>) -> Result<Opened, Stop> {
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (response, driver) = ask(&url, last_event_id, token.filter(|_| url.authority == first.authority)).await?;
        match response.status() {
            StatusCode::OK if is_event_stream(response.headers()) => {
                return Ok(Opened::Stream(Stream { body: response.into_body(), _driver: driver }));
            }
            StatusCode::OK => {
                let what = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                let what = what.unwrap_or("nothing that says what it is");
                return Err(Stop::Refused(format!("{url} answered with {what}, which is no event stream")));
            }
            StatusCode::NO_CONTENT => return Ok(Opened::NoMore),
            status if is_redirect(status) => {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let refused = |reason: String| Stop::Refused(format!("{url} leads elsewhere: {reason}"));
                let location = location.ok_or_else(|| refused("it does not say where".to_owned()))?;
                url = url.join(location).map_err(refused)?;
            }
            status => return Err(Stop::Refused(format!("{url} answered {status}{}", problem(response).await))),
        }
    }
    Err(Stop::Refused(format!("{url} leads elsewhere more than {MAX_REDIRECTS} times")))
}

async fn ask(
    url: &Url,
    last_event_id: &str,
    token: Option<&HeaderValue>,
) -> Result<(Response<Incoming>, JoinSet<()>), Stop> {
    let unreachable = |reason: String| Stop::Unreachable(format!("cannot reach http://{}: {reason}", url.authority));
    let connect = TcpStream::connect((&*url.host, url.port));
    let stream = match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(unreachable("connection refused".to_owned()));
        }
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("no answer within the deadline".to_owned())),
    };
    let keep_alive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE / 3);
    // Without it a server that is gone without a word is noticed late, and nothing else.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(describe(&error)))?;
    let mut driver = JoinSet::new();
    driver.spawn(async {
        // What goes wrong shows in the answer.
        let _ = connection.await;
    });
    let request = request(url, last_event_id, token).map_err(|error| Stop::Refused(format!("{url}: {error}")))?;
    match timeout(HEAD_TIMEOUT, sender.send_request(request)).await {
        Ok(Ok(response)) => Ok((response, driver)),
        Ok(Err(error)) => Err(unreachable(describe(&error))),
        Err(_) => Err(unreachable("no answer within the deadline".to_owned())),
    }
}

fn request(url: &Url, last_event_id: &str, token: Option<&HeaderValue>) -> http::Result<Request<Empty<Bytes>>> {
    let mut request = Request::get(&url.target)
        .header(HOST, &url.authority)
        .header(ACCEPT, "text/event-stream")
        .header(CACHE_CONTROL, "no-store")
        .header(USER_AGENT, concat!("sse-publisher/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    // An id that no header can carry is not sent, as if there were none.
    if !last_event_id.is_empty()
        && let Ok(id) = HeaderValue::from_bytes(last_event_id.as_bytes())
    {
        request = request.header("last-event-id", id);
    }
    request.body(Empty::new())
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    crate::http::has_media_type(headers, "text/event-stream")
}

/// What a refusal says for itself, with a colon before it: the detail of problem details, or the begin of its text.
async fn problem(response: Response<Incoming>) -> String {
    let body = timeout(HEAD_TIMEOUT, Limited::new(response.into_body(), MAX_PROBLEM).collect()).await;
    let Ok(Ok(body)) = body else { return String::new() };
    let body = body.to_bytes();
    let text = match serde_json::from_slice::<Value>(&body) {
        Ok(problem) => {
            let member = |name: &str| problem.get(name).and_then(Value::as_str);
            member("detail").or_else(|| member("title")).unwrap_or_default().to_owned()
        }
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let printable = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let told: String = printable.take(MAX_TOLD).collect();
    if told.is_empty() { told } else { format!(": {told}") }
}

/// The innermost reason, in the system's words.
fn describe(error: &hyper::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
