//! Pods that rules require, and the events of their watch.

use node_readiness_engine::signals::{PodSource, SignalEvent, SignalObject, SignalPod, Source};
use serde_json::{Value, json};

use super::Operator;

/// The pods that a rule requires.
pub fn required_pods() -> Value {
    let selector = json!({"matchLabels": {"k8s-app": "cni"}});
    json!([{"name": "cni", "namespace": "kube-system", "selector": selector}])
}

/// The watch of these pods.
pub fn pods() -> Source {
    let (namespace, selector) = ("kube-system".to_owned(), "k8s-app=cni".to_owned());
    Source::Pods(PodSource { namespace, selector })
}

/// The pod of the node `n`, with this container.
pub fn pod(ready: bool, container: &str) -> SignalPod {
    let status = if ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {"name": "cni-x", "namespace": "kube-system"},
        "spec": {"nodeName": "n"},
        "status": {
            "conditions": [{"type": "Ready", "status": status}],
            "containerStatuses": [{"name": "c", "containerID": container}],
        },
    }))
    .unwrap()
}

pub fn observe(operator: &mut Operator, source: &Source, event: SignalEvent<'_>) {
    let now = operator.heartbeats.watched_millis(operator.uptime);
    operator.signals.observe(source, event, now);
}

pub fn lists(operator: &mut Operator, source: &Source, objects: &[&dyn SignalObject]) {
    observe(operator, source, SignalEvent::ListBegins);
    for object in objects {
        observe(operator, source, SignalEvent::Applied(*object));
    }
    observe(operator, source, SignalEvent::ListEnds);
}
