//! A batch: `POST /publish` as NDJSON, a publish a line and an answer a line, in the same order.
//!
//! The whole batch is read before its first line is published: too long a one must leave nothing behind. Each line
//! stands for itself: a wrong one is answered by its problem, and the others are published.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::body;
use super::problem::Problem;
use super::service::{Answer, Service};

pub(super) const NDJSON: &str = "application/x-ndjson";

pub(super) async fn publish(service: &Service, body: Body) -> Result<Response, Problem> {
    let batch = body::read(body, "body", body::MAX_BATCH_BYTES).await;
    let batch = batch.map_err(|problem| service.refused(false, problem))?;
    let lines = lines(&batch, service.limits.max_batch).map_err(|problem| service.refused(false, problem))?;
    let mut answers = Vec::new();
    for (number, line) in lines {
        match publish_line(service, line, number).await {
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

async fn publish_line(service: &Service, line: &[u8], number: usize) -> Result<Answer, Problem> {
    let max = body::max_json(&service.limits);
    if line.len() > max {
        return Err(service.refused(false, Problem::too_large("body", max, "bytes")));
    }
    let order = service.read(line, number)?;
    service.carry_out(order).await
}

fn write_line(answers: &mut Vec<u8>, answer: &impl Serialize) {
    // Texts and numbers into memory: neither can fail.
    answers.extend(serde_json::to_vec(answer).unwrap_or_default());
    answers.push(b'\n');
}
