//! The rules of the benchmark.

use serde_json::{Value, json};

/// A port on which every kubelet serves its health to its own node.
const OPEN: u16 = 10248;

/// A port on which no server listens.
const CLOSED: u16 = 9;

/// The heartbeat, short so that several fall into the measurement.
pub(super) const HEARTBEAT_SECONDS: u32 = 60;

/// Returns a condition of a rule.
pub(super) fn condition(number: usize, probe: usize) -> String {
    format!("bench.example.com/Rule{number}Probe{probe}")
}

/// Returns a rule for all nodes with two probes that succeed, each with the default period.
pub(super) fn rule(number: usize) -> Value {
    with_first_port(number, OPEN)
}

/// Returns the same rule after an edit of its first probe, which fails now.
pub(super) fn edited(number: usize) -> Value {
    with_first_port(number, CLOSED)
}

fn with_first_port(number: usize, port: u16) -> Value {
    let (name, types) = (format!("bench-{number}"), [condition(number, 0), condition(number, 1)]);
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"kubernetes.io/os": "linux"}},
            "conditions": [
                {"type": types[0], "requiredStatus": "True"},
                {"type": types[1], "requiredStatus": "True"},
            ],
            "enforcementMode": "continuous",
            "taint": {"key": format!("readiness.k8s.io/{name}"), "effect": "NoSchedule"},
            "probes": [
                {"conditionType": types[0], "failureThreshold": 1,
                 "httpGet": {"port": port, "path": "/healthz"}},
                {"conditionType": types[1], "failureThreshold": 1, "tcpSocket": {"port": OPEN}},
            ],
            "reporter": {"heartbeatSeconds": HEARTBEAT_SECONDS},
        },
    })
}
