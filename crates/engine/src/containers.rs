//! The containers of required pods, which show whether a pod runs since its node's last boot.
//!
//! After a reboot, the API server has the pods' status from before it until kubelet writes another one. kubelet starts
//! other containers then. So the operator records the containers of Ready pods on the nodes that it releases.

use std::collections::{BTreeMap, BTreeSet};

use node_readiness_api::{Claim, HoldCause};

use crate::heartbeats::NodeHeartbeats;
use crate::signals::{PodContainers, PodSource, Signal, Signals};
use crate::{Node, Rule, SignalState, reboot};

/// The record of a claim: digests by name of the requirement.
pub(crate) type Containers = BTreeMap<String, BTreeSet<String>>;

/// The maximum number of pods to record for each requirement. A node has one pod of most agents.
const MAX_PODS: usize = 8;

/// How long before a reboot is observed containers may have started after it, in milliseconds: the watches of pods and
/// of nodes are not in step.
const OUT_OF_STEP: u64 = 10_000;

/// The pods of a rule's requirements on a node.
#[derive(Clone, Copy)]
pub(crate) struct Pods<'a> {
    pub(crate) node: &'a Node,
    pub(crate) rule: &'a Rule,
    pub(crate) claim: Option<&'a Claim>,
    pub(crate) heartbeats: NodeHeartbeats<'a>,
    pub(crate) signals: &'a Signals,
}

impl Pods<'_> {
    /// Returns the state of a requirement.
    pub(crate) fn state(self, name: &str, source: &PodSource) -> SignalState {
        let Some(pods) = self.signals.ready_pods(self.node.name(), source) else {
            let is_void = self.rule.resets_pods() && reboot::is_unrecorded(self.node);
            return if is_void { SignalState::Outdated } else { SignalState::Unobserved };
        };
        let mut state = SignalState::Unmet;
        for pod in pods {
            if !self.is_outdated(name, pod) {
                return SignalState::Met;
            }
            state = SignalState::Outdated;
        }
        state
    }

    /// Returns whether a Ready pod was started before the node's last boot. If the operator saw the boot, it knows
    /// which containers it saw before. Otherwise the record decides.
    fn is_outdated(self, name: &str, pod: PodContainers) -> bool {
        if !self.rule.resets_pods() {
            return false;
        }
        let is_recorded = || {
            let recorded = self.claim.and_then(|claim| claim.containers.get(name));
            recorded.is_some_and(|recorded| recorded.contains(&pod.digest()))
        };
        if reboot::is_unrecorded(self.node) {
            match self.heartbeats.rebooted() {
                Some(rebooted) => pod.seen.saturating_add(OUT_OF_STEP) <= rebooted,
                None => is_recorded(),
            }
        } else {
            self.is_held_since_reboot() && is_recorded()
        }
    }

    fn is_held_since_reboot(self) -> bool {
        self.claim.is_some_and(|claim| claim.cause == Some(HoldCause::Rebooted))
    }

    /// Returns the record of a released node: the containers of Ready pods.
    pub(crate) fn of_released(self) -> Containers {
        self.record(|_, _| true)
    }

    /// Returns the record of a node that is held because it rebooted: the containers that do not count.
    pub(crate) fn of_rebooted(self) -> Containers {
        if self.is_held_since_reboot() && !reboot::is_unrecorded(self.node) {
            return self.recorded();
        }
        self.record(|name, pod| self.is_outdated(name, pod))
    }

    /// Returns the present record.
    pub(crate) fn recorded(self) -> Containers {
        let recorded = self.claim.filter(|_| self.rule.resets_pods());
        recorded.map(|claim| claim.containers.clone()).unwrap_or_default()
    }

    /// Records these pods. What is not observed stays.
    fn record(self, counts: impl Fn(&str, PodContainers) -> bool) -> Containers {
        if !self.rule.resets_pods() {
            return Containers::new();
        }
        let mut known = self.recorded();
        let requirements = self.rule.signals.iter().filter_map(|signal| match signal {
            Signal::Pods { name, source, .. } => Some((name, source)),
            _ => None,
        });
        let record = requirements.filter_map(|(name, source)| {
            let digests = match self.signals.ready_pods(self.node.name(), source) {
                Some(pods) => pods
                    .filter(|pod| counts(name, *pod))
                    .map(PodContainers::digest)
                    .take(MAX_PODS)
                    .collect(),
                None => known.remove(name).unwrap_or_default(),
            };
            (!digests.is_empty()).then(|| (name.clone(), digests))
        });
        record.collect()
    }
}
