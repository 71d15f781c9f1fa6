//! The stream as a page of another origin asks for it, and the question before it that some clients make.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderValue, Method};

use super::nodes::first;
use crate::cli::doctor::connection::{Ask, Protocol};
use crate::cli::doctor::course::Course;
use crate::cli::doctor::judge::cors::Asked;
use crate::cli::doctor::tap::{Seen, Wish};

/// `None` where no stream was answered with.
pub(in crate::cli::doctor) async fn cors(course: &Course, origin: &HeaderValue) -> Option<Asked> {
    /// With one node of several that lives, one of them is asked.
    const TRIES: usize = 4;
    let wish = Wish { origin: Some(origin), ..Wish::default() };
    let (channel, tap) = first(|| course.tap(Protocol::Http2, &wish).ok(), Seen::is_stream).await?;
    let get = tap.seen().head.as_ref().map(|head| head.headers.clone())?;
    drop(tap);
    let mut ask = Ask::get(&course.target.on(&channel));
    ask.method = Method::OPTIONS;
    ask.headers.insert(ORIGIN, origin.clone());
    ask.headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"));
    ask.headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("last-event-id"));
    let mut preflight = Err(String::new());
    for _ in 0..TRIES {
        preflight = course.dialer.exchange(&ask).await.map(|answer| (answer.status, answer.headers));
        if preflight.as_ref().is_ok_and(|(status, _)| !status.is_server_error()) {
            break;
        }
    }
    let origin = origin.to_str().unwrap_or_default().to_owned();
    Some(Asked { origin, get, preflight })
}
