//! The files of `monitoring/` by themselves: alerts that do as their tests say, a runbook for each of them, a dashboard whose
//! panels have their places.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::promtool;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A folder below `monitoring/`.
pub fn folder(name: &str) -> PathBuf {
    root().join("monitoring").join(name)
}

/// The text of a file below `monitoring/`.
pub fn text(name: &str) -> String {
    read(&folder(name))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn dashboard() -> Value {
    serde_json::from_str(&text("grafana/dashboards/sse.json")).unwrap()
}

/// What stands behind `key` in each line of the rules that begins with it, in order.
fn lines_of_rules(key: &str) -> Vec<String> {
    let rules = text("prometheus/rules/sse.yml");
    rules.lines().filter_map(|line| line.trim().strip_prefix(key)).map(|rest| rest.trim().to_owned()).collect()
}

/// Names of all alerts, in order.
pub fn alerts() -> Vec<String> {
    lines_of_rules("- alert:")
}

async fn checks(args: &[&str]) {
    let output = promtool(args).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {args:?}:\n{said}");
}

#[tokio::test]
async fn promtool_takes_configurations_and_rules() {
    for config in ["prometheus/prometheus.yml", "prometheus/prometheus.compose.yml"] {
        checks(&["check", "config", folder(config).to_str().unwrap()]).await;
    }
    checks(&["check", "rules", folder("prometheus/rules/sse.yml").to_str().unwrap()]).await;
}

/// One that differs in more than its targets would have other alerts, or other names of jobs.
#[test]
fn compose_has_the_same_configuration() {
    let settings = |name: &str| -> Vec<String> {
        let text = text(name);
        let lines = text.lines().filter(|line| !line.trim().starts_with('#') && !line.contains("targets:"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(settings("prometheus/prometheus.yml"), settings("prometheus/prometheus.compose.yml"));
}

#[tokio::test]
async fn every_alert_fires_when_it_is_to_and_not_else() {
    checks(&["test", "rules", folder("prometheus/tests/sse_test.yml").to_str().unwrap()]).await;
    let tests = text("prometheus/tests/sse_test.yml");
    for name in alerts() {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "no test has {name} fire");
    }
}

/// Anchors of headings, as Markdown viewers make them of one word.
#[test]
fn every_alert_has_its_runbook_and_no_runbook_is_for_nothing() {
    let operations = read(&root().join("docs/operations.md"));
    let (_, runbooks) = operations.split_once("\n## Runbooks\n").expect("docs/operations.md has runbooks");
    let runbooks = runbooks.split("\n## ").next().unwrap();
    let headings: Vec<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let names = alerts();
    assert!(names.len() > 10);
    assert_eq!(headings, names, "in the order of the rules");
    let urls: Vec<String> =
        names.iter().map(|name| format!("docs/operations.md#{}", name.to_ascii_lowercase())).collect();
    assert_eq!(lines_of_rules("runbook_url:"), urls);
    for key in ["summary:", "description:", "labels: { severity:"] {
        assert_eq!(lines_of_rules(key).len(), names.len(), "each has its {key}");
    }
    for severity in lines_of_rules("labels: { severity:") {
        assert!(["critical }", "warning }"].contains(&severity.as_str()), "{severity}");
    }
    for section in runbooks.split("\n### ").skip(1) {
        for part in ["**Means**", "**Look at**", "**Do**"] {
            assert_eq!(section.matches(part).count(), 1, "{part} in {section}");
        }
    }
}

#[test]
fn panels_of_the_dashboard_have_their_places() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "of Grafana 10 or later");
    assert_eq!(dashboard["id"], Value::Null, "given by Grafana");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    // Columns that are taken, by row.
    let mut taken = std::collections::HashSet::new();
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{panel}");
        for (row, column) in (0..side("h")).flat_map(|row| (0..side("w")).map(move |column| (row, column))) {
            assert!(taken.insert((side("y") + row, side("x") + column)), "{} lies over another", panel["title"]);
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{}", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}
