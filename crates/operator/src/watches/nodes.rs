//! The watch of nodes.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{PredicateConfig, WatchStreamExt};
use node_readiness_engine::Node;

use super::{Reading, persistent, settled};

/// How long one watch lasts before the next takes over. A connection that silently died is noticed a
/// few seconds later, and so before anybody's silence could count as staleness.
const WATCH_SECONDS: u32 = 20;

/// Every node, slim.
pub type NodeStore = Store<Node>;

/// Watches nodes. The stream yields a node when something changed that a decision can depend on;
/// a heartbeat is not such a thing. `observe` is shown everything.
pub fn nodes(
    client: kube::Client,
    reading: Reading,
    observe: impl Fn(&watcher::Result<Event<Node>>, &NodeStore) + Send + Sync + 'static,
) -> (NodeStore, impl Stream<Item = watcher::Result<Node>> + Send + 'static) {
    let (store, writer) = reflector::store();
    let known = store.clone();
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let events = persistent("nodes", watcher(Api::<Node>::all(client), config), writer, reading)
        .inspect(move |event| observe(event, &known));
    let changes = settled(events, store.clone());
    (store, changes.predicate_filter(decisive, PredicateConfig::default()))
}

/// A hash of everything about a node that a decision can depend on.
#[expect(clippy::unnecessary_wraps, reason = "the form of a predicate")]
fn decisive(node: &Node) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let metadata = &node.metadata;
    metadata.uid.hash(&mut hasher);
    metadata.labels.hash(&mut hasher);
    metadata.annotations.hash(&mut hasher);
    for taint in node.taints() {
        (&taint.key, &taint.value, &taint.effect).hash(&mut hasher);
        for (field, value) in &taint.rest {
            (field, value.to_string()).hash(&mut hasher);
        }
    }
    for condition in node.conditions() {
        (&condition.type_, condition.status).hash(&mut hasher);
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hash(change: impl FnOnce(&mut Value)) -> Option<u64> {
        let mut node = json!({
            "metadata": {"name": "n", "uid": "1", "labels": {"a": "b"}, "resourceVersion": "1"},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"conditions": [{
                "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            }]},
        });
        change(&mut node);
        decisive(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_heartbeat_is_not_decisive() {
        let beaten = hash(|node| {
            node["metadata"]["resourceVersion"] = json!("2");
            node["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2026-01-01T00:05:00Z");
            node["status"]["images"] = json!([{"names": ["a"]}]);
        });
        assert_eq!(beaten, hash(|_| {}));
    }

    #[test]
    fn whatever_a_plan_depends_on_is_decisive() {
        let changes: [fn(&mut Value); 5] = [
            |node| node["metadata"]["uid"] = json!("2"),
            |node| node["metadata"]["labels"]["a"] = json!("c"),
            |node| node["metadata"]["annotations"] = json!({"example.com/first": "x"}),
            |node| node["spec"]["taints"][0]["timeAdded"] = json!("2026-01-01T00:00:00Z"),
            |node| node["status"]["conditions"][0]["status"] = json!("False"),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_ne!(hash(change), hash(|_| {}), "change {number}");
        }
    }
}
