//! Plans nodes: the engine's decision, from what the operator observed of all nodes.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use node_readiness_engine::signals::{Changed, SignalEvent, Signals, Source};
use node_readiness_engine::{MetSince, Node, NodePlan, PlanContext, RuleSet, plan};

use super::disruption_budget::DisruptionBudget;
use super::heartbeat_tracker::HeartbeatTracker;
use super::latency::LatencyTracker;
use super::writer::Outcome;
use crate::cache::NodeStore;
use crate::clock;
use crate::evaluations::EvaluationStore;
use crate::leader::Leadership;
use crate::telemetry::metrics::{NewlyUnmet, newly_unmet};

/// Plans nodes. It observes every event of the node watch before the controller does.
pub(crate) struct Planner {
    evaluations: Arc<EvaluationStore>,
    leadership: Leadership,
    started: Instant,
    state: Mutex<State>,
    requeued: UnboundedSender<ObjectRef<Node>>,
    pub(super) latency: LatencyTracker,
}

#[derive(Default)]
struct State {
    heartbeats: HeartbeatTracker,
    signals: Signals,
    met_since: MetSince,
    budget: DisruptionBudget,
}

/// A plan with its measurements.
pub(super) struct Planned {
    pub(super) plan: NodePlan,
    /// How long planning took.
    pub(super) took: Duration,
    pub(super) newly_unmet: NewlyUnmet,
}

impl Planner {
    /// A planner, and the stream of nodes to reconcile again although they did not change.
    pub(crate) fn new(
        evaluations: Arc<EvaluationStore>,
        leadership: Leadership,
    ) -> (Self, UnboundedReceiver<ObjectRef<Node>>) {
        let (requeued, requeue) = unbounded();
        let planner = Self {
            evaluations,
            leadership,
            started: Instant::now(),
            state: Mutex::default(),
            requeued,
            latency: LatencyTracker::default(),
        };
        (planner, requeue)
    }

    /// Handles one event of the node watch.
    pub(crate) fn observe(&self, event: &watcher::Result<Event<Node>>, store: &NodeStore) {
        let uptime = self.started.elapsed();
        let leads = self.leadership.may_write();
        let mut state = self.lock();
        let State { heartbeats, met_since, budget, .. } = &mut *state;
        match event {
            Err(_) => heartbeats.watch_interrupted(uptime),
            // The list is complete with `InitDone`.
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::Apply(node)) => {
                heartbeats.watch_resumed(uptime);
                budget.node_changed(node, leads);
                if heartbeats.observe(node, uptime) {
                    self.requeue(node.name());
                }
            }
            Ok(Event::Delete(node)) => {
                heartbeats.watch_resumed(uptime);
                heartbeats.node_deleted(node.name());
                met_since.forget(node.name());
                self.latency.forget(node.name());
                self.evaluations.forget(node.name());
                self.requeue_all(&budget.node_deleted(node.name()));
            }
            // Nodes may have been added and deleted while the watch was interrupted.
            Ok(Event::InitDone) => {
                heartbeats.watch_resumed(uptime);
                let nodes = store.state();
                let names: HashSet<_> = nodes.iter().map(|node| node.name()).collect();
                heartbeats.retain(&names);
                met_since.retain(&names);
                self.latency.retain(&names);
                self.evaluations.retain(|node| names.contains(node));
                self.requeue_all(&budget.nodes_listed(&nodes, &names, leads));
                for node in nodes.iter().filter(|node| heartbeats.observe(node, uptime)) {
                    self.requeue(node.name());
                }
            }
        }
    }

    /// Handles an event of a watch of signals.
    pub(crate) fn observe_signal(
        &self,
        source: &Source,
        event: SignalEvent<'_>,
        store: &NodeStore,
    ) {
        let uptime = self.started.elapsed();
        let mut state = self.lock();
        let State { heartbeats, signals, .. } = &mut *state;
        let now = heartbeats.heartbeats().watched_millis(uptime);
        match signals.observe(source, event, now) {
            Changed::Nodes(nodes) => {
                // A pod may be on a node that does not exist yet or any more.
                let exists = |node: &&Arc<str>| store.get(&ObjectRef::new(node)).is_some();
                nodes.iter().filter(exists).for_each(|node| self.requeue(node));
            }
            Changed::All => store.state().iter().for_each(|node| self.requeue(node.name())),
        }
    }

    /// Removes what no rule requires any more.
    pub(crate) fn retain_signals(&self, sources: &BTreeSet<Source>) {
        self.lock().signals.retain(sources);
    }

    /// Plans a node and reserves the room that the plan needs under `maxUnavailable`.
    pub(super) fn plan(&self, node: &Node, rules: &Arc<RuleSet>, store: &NodeStore) -> Planned {
        let mut state = self.lock();
        let State { heartbeats, signals, met_since, budget } = &mut *state;
        budget.count_covered(rules, || store.state());
        let begun = Instant::now();
        let uptime = self.started.elapsed();
        let context = PlanContext {
            now: clock::now(),
            uptime,
            heartbeats: heartbeats.heartbeats(),
            signals,
            met_since,
            regressed_nodes: budget.held(),
            covered_nodes: budget.covered(),
        };
        let plan = plan(node, rules, &context);
        let took = begun.elapsed();
        let newly_unmet =
            self.evaluations.read(|known| newly_unmet(node.name(), &plan, rules, known));
        budget.reserve(node.name(), &plan);
        heartbeats.planned(node.name(), &plan);
        met_since.observe(node.name(), &plan.results, rules, uptime);
        Planned { plan, took, newly_unmet }
    }

    /// Records the outcome of a plan. Returns the uids of the rules whose evaluation of the node changed.
    pub(super) fn record_outcome(
        &self,
        node: &Node,
        rules: &RuleSet,
        plan: &NodePlan,
        outcome: &Outcome,
        store: &NodeStore,
    ) -> HashSet<Arc<str>> {
        let mut state = self.lock();
        // The node may have been written. Its next write ends the reservation.
        if !matches!(outcome, Outcome::Unknown(_)) {
            state.budget.cancel(node.name());
        }
        // A node that was deleted during the write must not come back through its plan.
        let known = store.get(&ObjectRef::new(node.name()));
        if known.is_none_or(|known| known.metadata.uid != node.metadata.uid) {
            return HashSet::new();
        }
        let failure = outcome.failure();
        self.requeue_all(&state.budget.record(node.name(), rules, plan, failure.is_some()));
        self.evaluations.record(node.name(), plan, failure)
    }

    /// Ends the reservation of a plan that was not applied.
    pub(super) fn cancel(&self, node: &Node) {
        self.lock().budget.cancel(node.name());
    }

    fn requeue_all(&self, nodes: &BTreeSet<String>) {
        for node in nodes {
            self.requeue(node);
        }
    }

    fn requeue(&self, node: &str) {
        // The receiver is dropped only when the process ends.
        let _ = self.requeued.unbounded_send(ObjectRef::new(node));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector;
    use node_readiness_engine::{Failure, Rule};
    use serde_json::json;

    /// A rule that may hold one regressed node, for all nodes.
    fn rule(name: &str) -> Rule {
        let rule = json!({
            "apiVersion": "readiness.node.x-k8s.io/v1alpha1", "kind": "NodeReadinessRule",
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "nodeSelector": {}, "maxUnavailable": 1, "enforcementMode": "continuous",
                "conditions": [{"type": "C", "requiredStatus": "True"}],
                "taint": {"key": format!("readiness.k8s.io/{name}"), "effect": "NoSchedule"},
            },
        });
        Rule::compile(&serde_json::from_value(rule).unwrap()).unwrap()
    }

    /// A node that these rules had released and that is not ready any more.
    fn regressed(name: &str, rules: &[&str]) -> Node {
        let claim = |rule: &&str| {
            let key = format!("readiness.k8s.io/{rule}");
            let claim = json!({"state": "released", "since": "2026-01-01T00:00:00Z",
                "taint": {"key": key, "effect": "NoSchedule"}});
            ((*rule).to_owned(), claim)
        };
        let claims: serde_json::Map<_, _> = rules.iter().map(claim).collect();
        let node = json!({
            "metadata": {"name": name, "uid": name, "annotations": {
                "readiness.k8s.io/rules": serde_json::to_string(&claims).unwrap(),
            }},
            "status": {"conditions": [{"type": "C", "status": "False"}]},
        });
        serde_json::from_value(node).unwrap()
    }

    fn planner() -> (Planner, UnboundedReceiver<ObjectRef<Node>>) {
        let (evaluations, _) = EvaluationStore::new();
        Planner::new(Arc::new(evaluations), Leadership::unlimited())
    }

    #[test]
    fn cancel_ends_the_reservations_of_all_plans_of_a_node() {
        let (planner, _requeued) = planner();
        let (store, _) = reflector::store();
        let (one, both) = (
            Arc::new(RuleSet::new([rule("a")], [])),
            Arc::new(RuleSet::new([rule("a"), rule("b")], [])),
        );
        let node = regressed("n", &["a", "b"]);
        assert_eq!(planner.plan(&node, &one, &store).plan.regressed, ["a"]);
        assert_eq!(planner.plan(&node, &both, &store).plan.regressed, ["a", "b"]);
        planner.cancel(&node);
        let next = planner.plan(&regressed("m", &["a", "b"]), &both, &store).plan;
        assert_eq!(next.regressed, ["a", "b"], "there is room again");
    }

    #[test]
    fn a_deferred_node_is_requeued_when_a_held_node_is_deleted() {
        let (planner, mut requeued) = planner();
        let (store, mut writer) = reflector::store();
        let rules = Arc::new(RuleSet::new([rule("a")], []));
        let [held, deferred] = ["held", "deferred"].map(|name| regressed(name, &["a"]));
        for node in [&held, &deferred] {
            writer.apply_watcher_event(&Event::Apply(node.clone()));
        }
        for node in [&held, &deferred] {
            let plan = planner.plan(node, &rules, &store).plan;
            planner.record_outcome(node, &rules, &plan, &Outcome::Written, &store);
        }
        assert!(requeued.try_recv().is_err(), "there is no room");
        planner.observe(&Ok(Event::Delete(held)), &store);
        assert_eq!(requeued.try_recv().unwrap().name, "deferred");
    }

    /// A rule that may hold one regressed node, and two regressed nodes.
    struct Scene {
        planner: Planner,
        store: NodeStore,
        writer: reflector::store::Writer<Node>,
        rules: Arc<RuleSet>,
    }

    impl Scene {
        fn new() -> Self {
            let (store, mut writer) = reflector::store();
            let nodes = ["a", "b"].map(|name| regressed(name, &["r"]));
            writer.apply_watcher_event(&Event::Init);
            for node in nodes {
                writer.apply_watcher_event(&Event::InitApply(node));
            }
            writer.apply_watcher_event(&Event::InitDone);
            let rules = Arc::new(RuleSet::new([rule("r")], []));
            let scene = Self { planner: planner().0, store, writer, rules };
            scene.planner.observe(&Ok(Event::InitDone), &scene.store);
            scene
        }

        /// Plans the node and records this outcome. Returns whether the plan holds the node.
        fn holds(&self, name: &str, outcome: &Outcome) -> bool {
            let node = self.store.get(&ObjectRef::new(name)).unwrap();
            let plan = self.planner.plan(&node, &self.rules, &self.store).plan;
            self.planner.record_outcome(&node, &self.rules, &plan, outcome, &self.store);
            !plan.regressed.is_empty()
        }
    }

    fn failure() -> Failure {
        Failure { reason: "Timeout".to_owned(), message: "no answer".to_owned() }
    }

    #[test]
    fn a_list_older_than_a_write_makes_no_room() {
        let scene = Scene::new();
        assert!(scene.holds("a", &Outcome::Written));
        scene.planner.observe(&Ok(Event::InitDone), &scene.store);
        assert!(!scene.holds("b", &Outcome::Written));
    }

    #[test]
    fn a_write_with_an_unknown_outcome_makes_no_room() {
        let mut scene = Scene::new();
        assert!(scene.holds("a", &Outcome::Unknown(failure())));
        assert!(!scene.holds("b", &Outcome::Written));
        // The reservation ends when the node is written again or deleted.
        assert!(scene.holds("a", &Outcome::Failed(failure())));
        assert!(scene.holds("b", &Outcome::Unknown(failure())));
        assert!(!scene.holds("a", &Outcome::Written));
        let gone = Event::Delete(regressed("b", &["r"]));
        scene.writer.apply_watcher_event(&gone);
        scene.planner.observe(&Ok(gone), &scene.store);
        assert!(scene.holds("a", &Outcome::Written));
    }
}
