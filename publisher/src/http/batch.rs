//! A batch: `POST /publish` as NDJSON, a publish a line and an answer a line, in the same order.
//!
//! The whole batch is read before its first line is published: too long a one must leave nothing behind. Each line
//! stands for itself: a wrong one is answered by its problem, and the others are published, all by one batch of the
//! broker's.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use shared::auth::Access;

use super::body;
use super::fields::Order;
use super::problem::Problem;
use super::rate::Key;
use super::service::Service;

pub(super) const NDJSON: &str = "application/x-ndjson";

pub(super) async fn publish(service: &Service, access: &Access, key: &Key, body: Body) -> Result<Response, Problem> {
    let batch = body::read(body, "body", body::MAX_BATCH_BYTES).await;
    let batch = batch.map_err(|problem| service.refused(false, problem))?;
    let lines = lines(&batch, service.limits.max_batch).map_err(|problem| service.refused(false, problem))?;
    let orders = lines.into_iter().map(|(number, line)| order(service, access, line, number)).collect();
    let mut answers = Vec::new();
    for answer in service.carry_out_all(key, orders).await? {
        match answer {
            Ok(answer) => write_line(&mut answers, &answer),
            Err(problem) => write_line(&mut answers, &problem),
        }
    }
    Ok(([(CONTENT_TYPE, NDJSON)], answers).into_response())
}

/// The lines that are not blank, with their numbers from 1.
fn lines(batch: &[u8], max: usize) -> Result<Vec<(usize, &[u8])>, Problem> {
    let lines = batch.split(|&byte| byte == b'\n').zip(1..).map(|(line, number)| (number, line));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.trim_ascii().is_empty()).take(max.saturating_add(1)).collect();
    if lines.len() > max { Err(Problem::too_large("lines", max, "lines")) } else { Ok(lines) }
}

fn order(service: &Service, access: &Access, line: &[u8], number: usize) -> Result<Order, Problem> {
    let max = body::max_json(&service.limits);
    if line.len() > max {
        return Err(service.refused(false, Problem::too_large("body", max, "bytes")));
    }
    service.read(line, number, access)
}

fn write_line(answers: &mut Vec<u8>, answer: &impl Serialize) {
    // Texts and numbers into memory: neither can fail.
    answers.extend(serde_json::to_vec(answer).unwrap_or_default());
    answers.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::{BoxFuture, FutureExt};
    use http_body_util::BodyExt;
    use shared::channel::Channel;

    use super::*;
    use crate::http::Limits;
    use crate::metrics::Metrics;
    use crate::{Publication, Publish, PublishError, Receipt};

    /// Takes batches alone, and answers none but the first two events of one.
    #[derive(Default)]
    struct Batches(Mutex<Vec<Vec<String>>>);

    impl Publish for Batches {
        fn publish<'a>(&'a self, _: &'a Channel, _: Publication) -> BoxFuture<'a, Result<Receipt, PublishError>> {
            unreachable!("all of it is one batch")
        }

        fn publish_batch<'a>(
            &'a self,
            batch: Vec<(Channel, Publication)>,
        ) -> BoxFuture<'a, Vec<Result<Receipt, PublishError>>> {
            self.0.lock().unwrap().push(batch.iter().map(|(channel, _)| channel.to_string()).collect());
            let receipt = |receivers| Ok(Receipt { position: None, cursor: None, receivers, duplicate: false });
            async move { vec![receipt(1), receipt(2)] }.boxed()
        }
    }

    #[tokio::test]
    async fn all_lines_are_one_batch_of_the_brokers_and_none_passes_for_published() {
        let broker = Arc::new(Batches::default());
        let service = Service::new(Arc::clone(&broker) as Arc<dyn Publish>, Limits::default(), Metrics::new());
        let lines = "{\"channel\":\"a\"}\nwrong\n{\"channels\":[\"b\",\"c\"]}\n{\"channel\":\"d\"}";
        let response = publish(&service, &Access::Open, &Key::Unknown, Body::from(lines)).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answers: Vec<_> = std::str::from_utf8(&body).unwrap().lines().collect();
        assert_eq!(*broker.0.lock().unwrap(), [["a", "b", "c", "d"]]);
        let [a, wrong, bc, d] = answers[..] else { panic!("{answers:?}") };
        assert_eq!(a, r#"{"id":null,"receivers":1}"#);
        assert!(wrong.contains("malformed-json"), "{wrong}");
        let not_answered = "the broker refuses: it did not answer this event of the batch";
        assert_eq!(
            bc,
            format!(
                r#"{{"results":[{{"channel":"b","id":null,"receivers":2}},{{"channel":"c","error":"{not_answered}"}}]}}"#
            )
        );
        assert!(d.contains(r#""status":500"#) && d.contains(not_answered), "{d}");
    }
}
