//! Logs and the metrics recorder: set up once at the start of a process. Must not know what is logged or measured, and
//! opens no port.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look; `"text"`, `"json"` or `"auto"` in a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `2026-01-02T03:04:05.678901Z  INFO listening address=127.0.0.1:8080`, never with colours.
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, the fields of the event beside them, and the spans
    /// around it, outermost first, in `spans`.
    Json,
    /// Text; with colours when standard error is a terminal and the environment variable `NO_COLOR` is empty or not set.
    ///
    /// It never turns into JSON by itself: a redirection must not change what the lines can be parsed as. Whoever ships
    /// logs to a collector asks for `json`.
    #[default]
    Auto,
}

impl LogFormat {
    /// The word in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Auto => "auto",
        }
    }
}

impl Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    /// Reads the word, lower case; anything else is [`TelemetryError::LogFormat`].
    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        let known = [Self::Text, Self::Json, Self::Auto];
        known
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| TelemetryError::LogFormat(text.to_owned()))
    }
}

/// Why logs or metrics could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// No such format.
    #[error("unknown log format {0:?}, expected \"text\", \"json\" or \"auto\"")]
    LogFormat(String),
    /// A directive of the log filter cannot be read.
    #[error("invalid log filter {filter:?}: {directive:?}: {reason}")]
    LogFilter {
        /// The whole filter.
        filter: String,
        /// The part that is wrong.
        directive: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs were set up before in this process.
    #[error("logs are set up already")]
    LogsInstalled,
    /// The filter of logs that are set up cannot be replaced.
    #[error("the log filter cannot be replaced: {0}")]
    Reload(String),
    /// Bucket bounds that no histogram can have.
    #[error("invalid buckets of {metric:?}: bounds must be finite and rise, and there must be one")]
    Buckets {
        /// The histogram.
        metric: String,
    },
    /// A metrics recorder was set up before in this process, or it could not be built.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Sends the logs of this process to standard error: filtered, with times in UTC. Text leaves the target out, JSON keeps
/// it.
///
/// `filter` is a list of directives separated by commas, as [`EnvFilter`] reads it: a level for all (`info`) and
/// `target=level` (`gateway=debug`), also with spans and fields (`gateway[connection]=trace`). A bare word that is no
/// level is refused, although `EnvFilter` would take it for a target: `inof` would silence all the rest.
///
/// # Errors
///
/// [`TelemetryError::LogFilter`] names the filter and the directive; nothing of a bad filter is used.
/// [`TelemetryError::LogsInstalled`] on a second call, which changes nothing.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<LogFilter, TelemetryError> {
    let parsed = parse_filter(filter)?;
    // A line that cannot be written is dropped. By default the failure is reported to standard error as well, which panics.
    let logs = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(io::stderr).log_internal_errors(false);
    // Times are UTC without further ado: the default timer writes RFC 3339 with a `Z`.
    let (installed, replace) = match format {
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let replace = replacing(logs.reload_handle());
            (logs.finish().try_init(), replace)
        }
        LogFormat::Text | LogFormat::Auto => {
            let colours = format == LogFormat::Auto && wants_colours();
            let logs = logs.with_ansi(colours).with_target(false).with_filter_reloading();
            let replace = replacing(logs.reload_handle());
            (logs.finish().try_init(), replace)
        }
    };
    installed.map_err(|_| TelemetryError::LogsInstalled)?;
    Ok(LogFilter { current: Mutex::new(filter.to_owned()), replace })
}

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), TelemetryError> + Send + Sync>;

fn replacing<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Replace {
    Box::new(move |filter| handle.reload(filter).map_err(|error| TelemetryError::Reload(error.to_string())))
}

/// The filter of this process' logs, while it runs.
pub struct LogFilter {
    /// As it was written. Written and read by [`set`](Self::set) alone.
    current: Mutex<String>,
    replace: Replace,
}

impl LogFilter {
    /// Uses another filter from now on. Returns whether it is another one.
    ///
    /// # Errors
    /// [`TelemetryError::LogFilter`], and [`TelemetryError::Reload`]; then the one before stays.
    pub fn set(&self, filter: &str) -> Result<bool, TelemetryError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == filter {
            return Ok(false);
        }
        (self.replace)(parse_filter(filter)?)?;
        filter.clone_into(&mut current);
        Ok(true)
    }
}

/// Whether `filter` can be used: what is wrong with it, and where.
///
/// # Errors
/// In words that go behind the name of the setting.
pub fn check_filter(filter: &str) -> Result<(), String> {
    match parse_filter(filter) {
        Ok(_) => Ok(()),
        Err(TelemetryError::LogFilter { directive, reason, .. }) => Err(format!("{directive:?}: {reason}")),
        Err(other) => Err(other.to_string()),
    }
}

fn wants_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |directive: &str, reason: &str| TelemetryError::LogFilter {
        filter: filter.to_owned(),
        directive: directive.to_owned(),
        reason: reason.to_owned(),
    };
    // Without regular expressions: `field=value` means that value.
    let parser = EnvFilter::builder().with_regex(false);
    let mut directives = Vec::new();
    for directive in filter.split(',') {
        // The parser measures trimmed text and cuts untrimmed text.
        let directive = directive.trim();
        if directive.is_empty() {
            return Err(bad(directive, "expected a level such as \"info\", or \"target=level\""));
        }
        if !directive.contains(['=', '[']) && LevelFilter::from_str(directive).is_err() {
            return Err(bad(directive, "expected one of off, error, warn, info, debug, trace, or \"target=level\""));
        }
        if directive.ends_with('=') {
            return Err(bad(directive, "expected a level after \"=\""));
        }
        parser.parse(directive).map_err(|error| bad(directive, &error.to_string()))?;
        directives.push(directive);
    }
    parser.parse(directives.join(",")).map_err(|error| bad(filter, &error.to_string()))
}

/// Installs the recorder behind the `metrics` macros of this process and returns the handle that renders it.
///
/// `buckets` gives the upper bounds of each histogram by its full name, in the histogram's unit, rising; `+Inf` is added.
/// A histogram that is not named would be a summary: quantiles, which cannot be added up over nodes. So name all of them.
///
/// Nobody else does the upkeep: the caller must call [`PrometheusHandle::run_upkeep`] every few seconds. Recorded samples
/// of histograms pile up until then, or until the next render.
///
/// # Errors
///
/// [`TelemetryError::Buckets`] for bounds that are missing, not finite or do not rise; [`TelemetryError::Metrics`] when
/// this process has a recorder already, which stays.
pub fn install_metrics(buckets: &[(&str, &[f64])]) -> Result<PrometheusHandle, TelemetryError> {
    let mut builder = PrometheusBuilder::new();
    for (metric, bounds) in buckets {
        let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if bounds.is_empty() || !rising || !bounds.iter().all(|bound| bound.is_finite()) {
            return Err(TelemetryError::Buckets { metric: (*metric).to_owned() });
        }
        builder = builder.set_buckets_for_metric(Matcher::Full((*metric).to_owned()), bounds)?;
    }
    Ok(builder.install_recorder()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_format_is_a_lower_case_word() {
        for (word, format) in [("text", LogFormat::Text), ("json", LogFormat::Json), ("auto", LogFormat::Auto)] {
            assert_eq!(word.parse::<LogFormat>().unwrap(), format);
            assert_eq!(serde_json::to_value(format).unwrap(), word);
            assert_eq!(serde_json::from_value::<LogFormat>(word.into()).unwrap(), format);
            assert_eq!(format.to_string(), word);
        }
        let error = "JSON".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), r#"unknown log format "JSON", expected "text", "json" or "auto""#);
    }

    #[test]
    fn good_filters() {
        let cases = [
            ("info", "info"),
            ("OFF", "off"),
            ("info, gateway=debug", "gateway=debug,info"),
            (" warn ,hyper::proto=off", "hyper::proto=off,warn"),
            ("info,gateway[connection{lane=direct}]=trace", "info,gateway[connection{lane=direct}]=trace"),
        ];
        for (filter, read) in cases {
            assert_eq!(parse_filter(filter).unwrap().to_string(), read, "{filter}");
        }
    }

    #[test]
    fn bad_filters_are_named() {
        for filter in ["", " ", "inof", "info,", "info,gateway=loud", "gateway=", "gateway[", "gateway[a]b", "=info,é["]
        {
            let Err(error) = init_logs(filter, LogFormat::Text) else { panic!("{filter}") };
            assert!(matches!(error, TelemetryError::LogFilter { .. }), "{filter}: {error}");
            assert!(error.to_string().contains(&format!("{filter:?}")), "{error}");
        }
        let error = parse_filter("info,gatewy=loud").unwrap_err().to_string();
        assert!(error.starts_with("invalid log filter \"info,gatewy=loud\": \"gatewy=loud\": "), "{error}");
    }

    #[test]
    fn logs_are_set_up_once() {
        let filter = init_logs("off", LogFormat::Auto).unwrap();
        assert!(!filter.set("off").unwrap(), "it is the same");
        assert!(filter.set("info,gateway=loud").is_err() && !filter.set("off").unwrap(), "the one before stays");
        assert!(!tracing::enabled!(tracing::Level::ERROR));
        assert!(filter.set("warn").unwrap() && tracing::enabled!(tracing::Level::WARN));
        assert!(filter.set("off").unwrap() && !tracing::enabled!(tracing::Level::WARN));
        for format in [LogFormat::Text, LogFormat::Json] {
            assert!(matches!(init_logs("off", format), Err(TelemetryError::LogsInstalled)));
        }
    }

    #[test]
    fn bad_buckets_are_refused_before_anything_is_installed() {
        for bounds in [&[][..], &[1.0, 1.0], &[2.0, 1.0], &[f64::NAN], &[1.0, f64::INFINITY]] {
            let error = install_metrics(&[("good", &[1.0]), ("bad", bounds)]).unwrap_err();
            assert!(matches!(error, TelemetryError::Buckets { ref metric } if metric == "bad"), "{error}");
        }
    }

    #[test]
    fn metrics_are_set_up_once() {
        let handle = install_metrics(&[("delay_seconds", &[0.001, 0.01])]).unwrap();
        handle.run_upkeep();
        assert_eq!(handle.render(), "");
        assert!(matches!(install_metrics(&[]), Err(TelemetryError::Metrics(_))));
    }
}
