//! What the queries of the dashboard and of the alerts name.

use serde_json::Value;

/// One query, ready to be asked.
#[derive(Debug)]
pub struct Query {
    /// Where it stands, for failures.
    pub place: String,
    pub expr: String,
    /// Labels that the panel's legend shows.
    pub legend_labels: Vec<String>,
    /// Each metric of ours that it names, with what its braces say of labels.
    pub selectors: Vec<String>,
}

impl Query {
    fn new(place: String, expr: &str, legend: &str) -> Self {
        let legend_labels = legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().trim().to_owned());
        Self { place, expr: expr.to_owned(), legend_labels: legend_labels.collect(), selectors: selectors(expr) }
    }
}

/// Every query of a Grafana dashboard, its variables filled in as for all nodes: panels, annotations, and what variables are
/// chosen from.
pub fn of_dashboard(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = filled_in(target["expr"].as_str().unwrap());
            queries.push(Query::new(title.to_owned(), &expr, target["legendFormat"].as_str().unwrap()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] != "query" {
            continue;
        }
        let text = variable["query"]["query"].as_str().unwrap();
        let inner = text.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = inner.split_once(", ").unwrap();
        let expr = format!("count by ({label}) ({metric})");
        queries.push(Query::new(format!("variable {}", variable["name"]), &expr, &format!("{{{{{label}}}}}")));
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        if let Some(expr) = annotation["expr"].as_str() {
            // It has an answer only where something happened; what it compares has one always.
            let (compared, _) = expr.split_once(" > ").unwrap();
            queries.push(Query::new(format!("annotation {}", annotation["name"]), &filled_in(compared), ""));
        }
    }
    queries
}

/// The query of a rule, as Prometheus tells it.
pub fn of_alert(rule: &Value) -> Query {
    Query::new(rule["name"].to_string(), rule["query"].as_str().unwrap(), "")
}

/// With all nodes, and rates over what a test can wait for.
fn filled_in(expr: &str) -> String {
    let expr = expr.replace("$instance", ".*").replace("$__rate_interval", "10s");
    assert!(!expr.contains('$'), "a variable that nobody fills in: {expr}");
    expr
}

/// Metrics of ours, of the process, and `up`, each with the braces behind it.
fn selectors(expr: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(|c: char| is_name(c) || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').expect("a text that does not end").1;
            continue;
        }
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        rest = behind;
        if name == "up" || ["sse_", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            let braces = behind.strip_prefix('{').map_or("", |_| &behind[..=behind.find('}').unwrap()]);
            found.push(format!("{name}{braces}"));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn names_with_their_braces() {
    let expr = r#"sum by (up_to, le) (rate(sse_a_total{x=~"b|sse_c", y!="process_d"}[5m])) / on (instance) group_left process_e > 0 and up"#;
    assert_eq!(selectors(expr), ["process_e", r#"sse_a_total{x=~"b|sse_c", y!="process_d"}"#, "up"]);
    assert_eq!(selectors("vector(1)"), Vec::<String>::new());
    let query = Query::new("x".to_owned(), "up", "{{job}} of {{ instance }}");
    assert_eq!(query.legend_labels, ["job", "instance"]);
}
