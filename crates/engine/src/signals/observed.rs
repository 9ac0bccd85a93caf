//! What the operator observed of signals.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::by_node::{ByNode, Observed};
use super::{Fact, PodSource, Signal, SignalObject, Source};
use crate::digest;

/// The facts of all watches of signals.
#[derive(Debug, Default)]
pub struct Signals {
    pods: HashMap<PodSource, ByNode>,
    csi_nodes: ByNode,
    resource_slices: ByNode,
}

/// An event of a watch.
#[derive(Clone, Copy)]
pub enum SignalEvent<'a> {
    /// A list begins.
    ListBegins,
    /// An object was listed, added or changed.
    Applied(&'a dyn SignalObject),
    /// An object was deleted.
    Deleted(&'a dyn SignalObject),
    /// The list is complete. What it does not have is gone.
    ListEnds,
}

/// The nodes about which an event changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These nodes.
    Nodes(Vec<Arc<str>>),
    /// All nodes, because the first list of a watch is complete.
    All,
}

/// A pod that is Ready on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodContainers {
    /// Identifies its containers.
    pub(crate) id: u64,
    /// When the containers were first observed, in milliseconds of watching.
    pub(crate) seen: u64,
}

impl PodContainers {
    /// Returns the form of the record on a node.
    pub(crate) fn digest(self) -> String {
        digest::to_text(self.id)
    }
}

impl Signals {
    /// Removes what is not watched any more.
    pub fn retain(&mut self, watched: &BTreeSet<Source>) {
        self.pods.retain(|pods, _| watched.contains(&Source::Pods(pods.clone())));
        if !watched.contains(&Source::CsiNodes) {
            self.csi_nodes = ByNode::default();
        }
        if !watched.contains(&Source::ResourceSlices) {
            self.resource_slices = ByNode::default();
        }
    }

    /// Handles an event. `now` is the time spent watching, in milliseconds.
    pub fn observe(&mut self, source: &Source, event: SignalEvent<'_>, now: u64) -> Changed {
        let watch = self.watch(source);
        Changed::Nodes(match event {
            SignalEvent::ListBegins => {
                watch.begin_list();
                Vec::new()
            }
            SignalEvent::Applied(object) => {
                watch.apply(object.name(), object.node(), object.fact(), now)
            }
            SignalEvent::Deleted(object) => watch.delete(object.name()).into_iter().collect(),
            SignalEvent::ListEnds if watch.synced => watch.end_list(),
            SignalEvent::ListEnds => {
                watch.end_list();
                return Changed::All;
            }
        })
    }

    fn watch(&mut self, source: &Source) -> &mut ByNode {
        match source {
            Source::Pods(pods) => self.pods.entry(pods.clone()).or_default(),
            Source::CsiNodes => &mut self.csi_nodes,
            Source::ResourceSlices => &mut self.resource_slices,
        }
    }

    /// Returns the pods of a requirement that are Ready on a node; `None` before the first list.
    pub(crate) fn ready_pods(
        &self,
        node: &str,
        source: &PodSource,
    ) -> Option<impl Iterator<Item = PodContainers>> {
        let watch = self.pods.get(source).filter(|watch| watch.synced)?;
        Some(watch.of(node).filter_map(|Observed { fact, seen }| match fact {
            Fact::Pod { ready: true, containers } => {
                Some(PodContainers { id: *containers, seen: *seen })
            }
            _ => None,
        }))
    }

    /// Returns whether a node meets a requirement of drivers; `None` before the first list, and for others.
    pub(crate) fn has_driver(&self, node: &str, signal: &Signal) -> Option<bool> {
        match signal {
            Signal::CsiDriver(driver) => {
                let mut facts = synced(&self.csi_nodes)?.of(node);
                Some(facts.any(|observed| match &observed.fact {
                    Fact::CsiDrivers(drivers) => drivers.iter().any(|known| **known == **driver),
                    _ => false,
                }))
            }
            Signal::ResourceDriver(driver) => {
                let facts = synced(&self.resource_slices)?.of(node);
                Some(is_published(facts, driver))
            }
            Signal::Pods { .. } | Signal::Resource { .. } => None,
        }
    }
}

fn synced(watch: &ByNode) -> Option<&ByNode> {
    watch.synced.then_some(watch)
}

/// Returns whether a driver has published its pools completely: at least one, and of each all slices of the newest
/// generation (`resource.k8s.io/v1`, `ResourcePool`).
fn is_published<'a>(facts: impl Iterator<Item = &'a Observed>, of: &str) -> bool {
    /// The newest generation of a pool, with its number of slices.
    struct Newest {
        generation: i64,
        total: i64,
        found: i64,
    }
    let mut pools = BTreeMap::<&str, Newest>::new();
    for Observed { fact, .. } in facts {
        let Fact::Slice { driver, pool, generation, total } = fact else { continue };
        if **driver != *of {
            continue;
        }
        let first = Newest { generation: *generation, total: *total, found: 0 };
        let newest = pools.entry(pool).or_insert(first);
        if *generation > newest.generation {
            *newest = Newest { generation: *generation, total: *total, found: 0 };
        }
        if *generation == newest.generation {
            newest.found += 1;
        }
    }
    !pools.is_empty() && pools.values().all(|pool| pool.found >= pool.total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{CsiNode, ResourceSlice, SignalPod};
    use super::*;

    fn source() -> PodSource {
        PodSource { namespace: "kube-system".to_owned(), selector: "k8s-app=cni".to_owned() }
    }

    fn pod(name: &str, node: &str, ready: &str, container: &str) -> SignalPod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"nodeName": node},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "c", "containerID": container}],
            },
        }))
        .unwrap()
    }

    fn slice(name: &str, pool: &str, generation: i64, total: i64) -> ResourceSlice {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"driver": "gpu.example.com", "nodeName": "n",
                     "pool": {"name": pool, "generation": generation, "resourceSliceCount": total}},
        }))
        .unwrap()
    }

    fn nodes(names: &[&str]) -> Changed {
        Changed::Nodes(names.iter().map(|&name| name.into()).collect())
    }

    fn ready(signals: &Signals, node: &str) -> Option<usize> {
        signals.ready_pods(node, &source()).map(Iterator::count)
    }

    #[test]
    fn only_a_change_of_a_fact_concerns_a_node() {
        let (mut signals, pods) = (Signals::default(), Source::Pods(source()));
        signals.observe(&pods, SignalEvent::ListBegins, 0);
        signals.observe(&pods, SignalEvent::Applied(&pod("a", "n", "True", "1")), 0);
        assert_eq!(ready(&signals, "n"), None, "the list is not complete");
        assert_eq!(signals.observe(&pods, SignalEvent::ListEnds, 0), Changed::All);
        assert_eq!(ready(&signals, "n"), Some(1));
        assert_eq!(
            signals.observe(&pods, SignalEvent::Applied(&pod("a", "n", "True", "1")), 1),
            nodes(&[])
        );
        assert_eq!(
            signals.observe(&pods, SignalEvent::Applied(&pod("a", "n", "False", "1")), 2),
            nodes(&["n"])
        );
        assert_eq!(ready(&signals, "n"), Some(0));
        assert_eq!(
            signals.observe(&pods, SignalEvent::Applied(&pod("a", "m", "True", "2")), 3),
            nodes(&["n", "m"])
        );
        assert_eq!(
            signals.observe(&pods, SignalEvent::Deleted(&pod("a", "m", "True", "2")), 0),
            nodes(&["m"])
        );
        assert_eq!(ready(&signals, "m"), Some(0));
    }

    #[test]
    fn a_list_removes_what_it_does_not_have() {
        let (mut signals, pods) = (Signals::default(), Source::Pods(source()));
        signals.observe(&pods, SignalEvent::ListBegins, 0);
        for name in ["a", "b"] {
            signals.observe(&pods, SignalEvent::Applied(&pod(name, name, "True", "1")), 0);
        }
        signals.observe(&pods, SignalEvent::ListEnds, 0);
        signals.observe(&pods, SignalEvent::ListBegins, 0);
        signals.observe(&pods, SignalEvent::Applied(&pod("b", "b", "True", "1")), 1);
        assert_eq!(signals.observe(&pods, SignalEvent::ListEnds, 0), nodes(&["a"]));
        assert_eq!((ready(&signals, "a"), ready(&signals, "b")), (Some(0), Some(1)));
    }

    #[test]
    fn the_age_of_containers_is_that_of_their_ids() {
        let (mut signals, pods) = (Signals::default(), Source::Pods(source()));
        signals.observe(&pods, SignalEvent::ListEnds, 0);
        let seen = |signals: &Signals| {
            signals.ready_pods("n", &source()).unwrap().map(|pod| pod.seen).collect::<Vec<_>>()
        };
        signals.observe(&pods, SignalEvent::Applied(&pod("a", "n", "False", "1")), 10);
        signals.observe(&pods, SignalEvent::Applied(&pod("a", "n", "True", "1")), 20);
        assert_eq!(seen(&signals), [10]);
        signals.observe(&pods, SignalEvent::Applied(&pod("a", "n", "True", "2")), 30);
        assert_eq!(seen(&signals), [30]);
    }

    #[test]
    fn a_terminating_pod_is_not_ready() {
        let mut pod = serde_json::to_value(json!({
            "metadata": {"name": "a"}, "spec": {"nodeName": "n"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let is_ready = |pod: &serde_json::Value| {
            let pod: SignalPod = serde_json::from_value(pod.clone()).unwrap();
            matches!(pod.fact(), Fact::Pod { ready: true, .. })
        };
        assert!(is_ready(&pod));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!is_ready(&pod));
    }

    #[test]
    fn drivers_are_those_of_the_csi_node() {
        let mut signals = Signals::default();
        let ebs = Signal::CsiDriver("ebs".to_owned());
        assert_eq!(signals.has_driver("n", &ebs), None);
        let node: CsiNode = serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "ebs", "nodeID": "i"}]}}),
        )
        .unwrap();
        signals.observe(&Source::CsiNodes, SignalEvent::ListEnds, 0);
        signals.observe(&Source::CsiNodes, SignalEvent::Applied(&node), 0);
        assert_eq!(signals.has_driver("n", &ebs), Some(true));
        assert_eq!(signals.has_driver("n", &Signal::CsiDriver("efs".to_owned())), Some(false));
        assert_eq!(signals.has_driver("m", &ebs), Some(false));
        let without: CsiNode =
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"drivers": null}}))
                .unwrap();
        signals.observe(&Source::CsiNodes, SignalEvent::Applied(&without), 0);
        assert_eq!(signals.has_driver("n", &ebs), Some(false));
    }

    #[test]
    fn a_pool_counts_when_its_newest_generation_is_complete() {
        let (mut signals, slices) = (Signals::default(), Source::ResourceSlices);
        signals.observe(&slices, SignalEvent::ListEnds, 0);
        let driver = Signal::ResourceDriver("gpu.example.com".to_owned());
        let mut steps = vec![];
        for (name, pool, generation, total) in [
            ("a1", "a", 1, 2),
            ("a2", "a", 1, 2),
            ("b1", "b", 7, 1),
            ("a3", "a", 2, 2),
            ("a4", "a", 2, 2),
        ] {
            signals.observe(
                &slices,
                SignalEvent::Applied(&slice(name, pool, generation, total)),
                0,
            );
            steps.push(signals.has_driver("n", &driver).unwrap());
        }
        assert_eq!(steps, [false, true, true, false, true]);
    }
}
