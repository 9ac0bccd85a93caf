//! The rules of the benchmark.

use serde_json::{Value, json};

/// A port on which every kubelet serves its health to its own node.
const OPEN: u16 = 10248;

/// A port on which no server listens.
const CLOSED: u16 = 9;

/// The heartbeat, short so that several fall into the measurement.
pub(super) const HEARTBEAT_SECONDS: u32 = 60;

/// Returns the name of a rule.
pub(super) fn name(number: usize) -> String {
    format!("bench-{number}")
}

/// Returns a condition of a rule.
pub(super) fn condition(number: usize, probe: usize) -> String {
    format!("bench.example.com/Rule{number}Probe{probe}")
}

/// Returns a rule for all nodes with two probes that succeed, each with the default period.
pub(super) fn rule(number: usize) -> Value {
    let port = |_| OPEN;
    with_ports(number, port)
}

/// Returns the same rule after an edit of its first probe, which fails now.
pub(super) fn edited(number: usize) -> Value {
    with_ports(number, |probe| if probe == 0 { CLOSED } else { OPEN })
}

fn with_ports(number: usize, port: impl Fn(usize) -> u16) -> Value {
    let types = [condition(number, 0), condition(number, 1)];
    let required = types.iter().map(|type_| json!({"type": type_, "requiredStatus": "True"}));
    let handlers = [
        json!({"httpGet": {"port": port(0), "path": "/healthz"}}),
        json!({"tcpSocket": {"port": port(1)}}),
    ];
    let probes = types.iter().zip(handlers).map(|(type_, mut probe)| {
        probe["conditionType"] = json!(type_);
        probe["failureThreshold"] = json!(1);
        probe
    });
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name(number)},
        "spec": {
            "nodeSelector": {"matchLabels": {"kubernetes.io/os": "linux"}},
            "conditions": required.collect::<Vec<_>>(),
            "enforcementMode": "continuous",
            "taint": {"key": format!("readiness.k8s.io/{}", name(number)), "effect": "NoSchedule"},
            "probes": probes.collect::<Vec<_>>(),
            "reporter": {"heartbeatSeconds": HEARTBEAT_SECONDS},
        },
    })
}
