//! The watch of nodes.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use node_readiness_engine::Node;

use super::reflect::{NODE_WATCH_TIMEOUT_SECONDS, persistent};
use super::sync::CacheSync;

/// Every node, with the fields that the operator uses.
pub(crate) type NodeStore = Store<Node>;

/// The number of nodes on one page of a list. A whole page is in memory, so this limits the memory of a list.
const PAGE: u32 = 100;

/// Watches nodes. The stream yields a node after a change that a decision can depend on, which excludes
/// heartbeats. `observe` handles every event.
pub(super) fn nodes(
    client: kube::Client,
    sync: CacheSync,
    observe: impl Fn(&watcher::Result<Event<Node>>, &NodeStore) + Send + Sync + 'static,
) -> (NodeStore, impl Stream<Item = Arc<Node>> + Send + 'static) {
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().timeout(NODE_WATCH_TIMEOUT_SECONDS).page_size(PAGE);
    let events = persistent("nodes", watcher(Api::<Node>::all(client), config), writer, sync);
    let (known, mut decided) = (store.clone(), Decisive::default());
    let changes = events.flat_map(move |event| {
        observe(&event, &known);
        stream::iter(decided.changed(&event, &known))
    });
    (store, changes)
}

/// Detects changes that a decision can depend on.
#[derive(Default)]
struct Decisive {
    /// By name of the node, a hash of everything that decisions depend on.
    known: HashMap<String, u64>,
}

impl Decisive {
    /// Returns the nodes that an event changed. A list triggers nothing until it is complete, because the store
    /// has the old nodes until then.
    fn changed(
        &mut self,
        event: &watcher::Result<Event<Node>>,
        store: &NodeStore,
    ) -> Vec<Arc<Node>> {
        match event {
            Ok(Event::Apply(node)) => {
                let changed = self.is_changed(node);
                changed
                    .then(|| store.get(&ObjectRef::from_obj(node)))
                    .flatten()
                    .into_iter()
                    .collect()
            }
            Ok(Event::Delete(node)) => {
                self.known.remove(node.name());
                Vec::new()
            }
            Ok(Event::InitDone) => {
                let nodes = store.state();
                let names: HashSet<_> = nodes.iter().map(|node| node.name()).collect();
                self.known.retain(|known, _| names.contains(&**known));
                nodes.iter().filter(|node| self.is_changed(node)).cloned().collect()
            }
            Ok(Event::Init | Event::InitApply(_)) | Err(_) => Vec::new(),
        }
    }

    fn is_changed(&mut self, node: &Node) -> bool {
        let hash = decisive(node);
        match self.known.get_mut(node.name()) {
            Some(known) => std::mem::replace(known, hash) != hash,
            None => self.known.insert(node.name().to_owned(), hash).is_none(),
        }
    }
}

/// Returns a hash of everything in a node that a decision can depend on.
fn decisive(node: &Node) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.metadata.uid.hash(&mut hasher);
    node.is_terminating().hash(&mut hasher);
    node.labels().hash(&mut hasher);
    node.has_annotations().hash(&mut hasher);
    for annotation in node.annotations() {
        annotation.hash(&mut hasher);
    }
    node.boot_id().hash(&mut hasher);
    node.allocatable().hash(&mut hasher);
    for taint in node.taints() {
        (&taint.key, &taint.value, &taint.effect).hash(&mut hasher);
        for (field, value) in &taint.rest {
            (field, value.to_string()).hash(&mut hasher);
        }
    }
    for condition in node.conditions() {
        (&condition.type_, condition.status).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hash(change: impl FnOnce(&mut Value)) -> u64 {
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
    fn every_input_of_a_plan_is_decisive() {
        let changes: [fn(&mut Value); 8] = [
            |node| node["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            |node| node["metadata"]["uid"] = json!("2"),
            |node| node["metadata"]["labels"]["a"] = json!("c"),
            |node| node["metadata"]["annotations"] = json!({"example.com/first": "x"}),
            |node| node["spec"]["taints"][0]["timeAdded"] = json!("2026-01-01T00:00:00Z"),
            |node| node["status"]["conditions"][0]["status"] = json!("False"),
            |node| node["status"]["nodeInfo"] = json!({"bootID": "2"}),
            |node| node["status"]["allocatable"] = json!({"example.com/gpu": "1"}),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_ne!(hash(change), hash(|_| {}), "change {number}");
        }
    }
}
