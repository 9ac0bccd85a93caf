//! The metrics of a reporter, scraped from a machine that reaches its node's network.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually};
use crate::http::request;
use crate::nodes::address;
use crate::reporters::{Report, Rule};

const PREFIX: &str = "node_readiness_reporter_";

/// Returns a reporter's counters by name and labels, without the project's prefix and without sums of seconds.
pub fn scrape(node: &str, port: u16) -> Option<BTreeMap<String, u64>> {
    let text = request(&format!("{}:{port}", address(node)), "GET", "/metrics").ok()?;
    let sample = |line: &str| {
        let (name, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Some(text.lines().filter_map(sample).collect())
}

#[test]
fn two_sets_with_one_metrics_port_both_report_and_only_one_serves_metrics() {
    const PORT: u16 = 9191;
    let mut exclusive = Exclusive::with_operator();
    let rule = |name| Rule::of_node(name, "node-a").reporter("metricsPort", PORT);
    let probe = |port: u16| -> Value { json!({"tcpSocket": {"port": port}}) };
    let refused = |port| -> Report {
        ("False", "ProbeFailed", format!("tcpSocket localhost:{port}: connection refused"))
    };

    // No server listens on either port.
    let first = rule("metrics-first").probe("One", &probe(9192));
    first.apply(&mut exclusive);
    first.await_reported("One", &refused(9192));
    let samples = eventually("the first rule's reporter serves metrics", || {
        scrape("node-a", PORT).filter(|samples| samples[CHECKS_UNHEALTHY] > 1)
    });
    for name in NAMES {
        assert!(samples.contains_key(name), "{name} is missing from {:?}", samples.keys());
    }

    let second = rule("metrics-second")
        .reporter("podLabels", json!({"set": "second"}))
        .probe("Two", &probe(9193));
    second.apply(&mut exclusive);
    second.await_reported("Two", &refused(9193));
    let log = eventually("the second reporter logs why it serves no metrics", || {
        Some(second.log()).filter(|log| log.contains("--metrics-port"))
    });
    assert!(log.contains("give each reporter set on the host network a port of its own"), "{log}");
    let reported = log.lines().filter(|line| line.contains("--metrics-port")).count();
    assert_eq!(reported, 1, "{log}");
    // The first reporter keeps running.
    eventually("the first rule's reporter keeps probing", || {
        let now = scrape("node-a", PORT)?;
        (now[CHECKS_UNHEALTHY] > samples[CHECKS_UNHEALTHY]).then_some(())
    });
}

const CHECKS_UNHEALTHY: &str = "checks_total{result=\"unhealthy\"}";

/// The metrics of the Go project's reporter.
const NAMES: [&str; 9] = [
    concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
    "check_duration_seconds_count",
    "check_duration_seconds_bucket{le=\"0.25\"}",
    "checks_total{result=\"healthy\"}",
    CHECKS_UNHEALTHY,
    "checks_total{result=\"error\"}",
    "condition_writes_total{result=\"success\"}",
    "condition_writes_total{result=\"error\"}",
    "condition_writes_total{result=\"skipped\"}",
];
