//! What the node path remembers between two looks at a node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use node_readiness_engine::{
    Coverage, Finding, Heartbeats, Node, NodePlan, Regressions, RuleSet, Situation, Standing, plan,
};

use super::waits::Waits;
use super::writer::Outcome;
use crate::clock;
use crate::leadership::Leadership;
use crate::ledger::SharedLedger;
use crate::metrics::{NewlyUnmet, newly_unmet};
use crate::watches::NodeStore;

/// Heartbeats, limits, and who waits for what.
pub(crate) struct Memory {
    ledger: Arc<SharedLedger>,
    leadership: Leadership,
    started: Instant,
    state: Mutex<State>,
    again: UnboundedSender<ObjectRef<Node>>,
    pub(super) waits: Waits,
}

#[derive(Default)]
struct State {
    heartbeats: Heartbeats,
    regressions: Regressions,
    /// Rules whose limits plans take up that are not settled yet, by node.
    reserved: HashMap<String, Vec<String>>,
    coverage: Coverage,
    /// Whether all nodes have been listed once.
    listed: bool,
    /// The rules that the coverage was counted for; `None` when nodes were listed anew since.
    counted: Option<Arc<RuleSet>>,
    /// Nodes for which the next heartbeat decides something.
    awaiting: HashSet<String>,
    /// By the uid of the rule: nodes that wait for room under its limit.
    deferred: HashMap<Arc<str>, BTreeSet<String>>,
}

/// A plan, and what there is to measure of it.
pub(super) struct Planned {
    pub(super) plan: NodePlan,
    /// How long it took to make.
    pub(super) took: Duration,
    pub(super) newly_unmet: NewlyUnmet,
}

impl Memory {
    /// An empty memory, and the nodes that are to be looked at again although they did not change.
    pub(crate) fn new(
        ledger: Arc<SharedLedger>,
        leadership: Leadership,
    ) -> (Self, UnboundedReceiver<ObjectRef<Node>>) {
        let (again, look_again) = unbounded();
        let (started, state, waits) = (Instant::now(), Mutex::default(), Waits::default());
        (Self { ledger, leadership, started, state, again, waits }, look_again)
    }

    /// Takes in what the watch of nodes says.
    pub(crate) fn observe(&self, event: &watcher::Result<Event<Node>>, store: &NodeStore) {
        let uptime = self.started.elapsed();
        let mut state = self.lock();
        match event {
            Err(_) => state.heartbeats.interrupt(uptime),
            // A list that has begun says nothing yet.
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::Apply(node)) => {
                state.heartbeats.resume(uptime);
                state.follow(node);
                // Who leads has its own count, which is ahead of what it reads.
                if !self.leadership.may_write() {
                    state.regressions.follow(node);
                }
                self.hear(&mut state, node, uptime);
            }
            Ok(Event::Delete(node)) => {
                state.heartbeats.resume(uptime);
                state.forget(node.name());
                self.waits.forget(node.name());
                self.ledger.forget(node.name());
                // It may have left room under a limit.
                match state.counted.clone() {
                    Some(rules) => self.fill(&mut state, &rules),
                    None => self.look_again_at_deferred(&mut state),
                }
            }
            // Nodes may have come and gone while nobody watched.
            Ok(Event::InitDone) => {
                state.heartbeats.resume(uptime);
                let nodes = store.state();
                let names: HashSet<_> = nodes.iter().map(|node| node.name()).collect();
                state.retain(&names);
                self.waits.retain(&names);
                state.counted = None;
                // A list is of the moment when it began. Who leads has its own count, as above.
                if !state.listed || !self.leadership.may_write() {
                    state.listed = true;
                    state.recount(&nodes);
                }
                self.ledger.retain(|node| names.contains(node));
                self.look_again_at_deferred(&mut state);
                for node in &nodes {
                    self.hear(&mut state, node, uptime);
                }
            }
        }
    }

    /// Notes a node's heartbeats, and has it looked at again if that was waited for.
    fn hear(&self, state: &mut State, node: &Node, uptime: Duration) {
        if state.heartbeats.observe(node, uptime) && state.awaiting.remove(node.name()) {
            self.look_again(node.name());
        }
    }

    /// Plans a node, and takes up what the plan needs of the rules' limits, so that two nodes that
    /// are planned at the same time cannot take the same room.
    pub(super) fn plan(&self, node: &Node, rules: &Arc<RuleSet>, store: &NodeStore) -> Planned {
        let mut state = self.lock();
        if !state.counted.as_ref().is_some_and(|counted| Arc::ptr_eq(counted, rules)) {
            let nodes = store.state();
            state.coverage = Coverage::count(rules, nodes.iter().map(AsRef::as_ref));
            state.counted = Some(Arc::clone(rules));
        }
        let begun = Instant::now();
        let situation = Situation {
            now: clock::now(),
            uptime: self.started.elapsed(),
            heartbeats: &state.heartbeats,
            regressions: &state.regressions,
            coverage: &state.coverage,
        };
        let plan = plan(node, rules, &situation);
        let took = begun.elapsed();
        let newly_unmet = self.ledger.read(|ledger| newly_unmet(node.name(), &plan, rules, ledger));
        let mut reserved = plan.regressed.clone();
        reserved.retain(|rule| state.regressions.hold(rule, node.name()));
        if !reserved.is_empty() {
            // Beside what an earlier plan took up that was not carried out, since rules changed.
            state.reserved.entry(node.name().to_owned()).or_default().extend(reserved);
        }
        let awaits_heartbeat = |finding: &Finding| {
            finding.standing == Standing::Pending || finding.evaluation.awaits_heartbeat()
        };
        if plan.findings.iter().any(awaits_heartbeat) {
            state.awaiting.insert(node.name().to_owned());
        } else {
            state.awaiting.remove(node.name());
        }
        Planned { plan, took, newly_unmet }
    }

    /// Takes in what came of a plan. Returns the uids of the rules for which that is news.
    pub(super) fn settle(
        &self,
        node: &Node,
        rules: &RuleSet,
        plan: &NodePlan,
        outcome: &Outcome,
        store: &NodeStore,
    ) -> HashSet<Arc<str>> {
        let mut state = self.lock();
        // What may have been written is not given back: that is found out when it is written again.
        if !matches!(outcome, Outcome::Unknown(_)) {
            state.give_back(node.name());
        }
        // A node that went while it was written is not to come back by what was planned for it.
        let known = store.get(&ObjectRef::new(node.name()));
        if known.is_none_or(|known| known.metadata.uid != node.metadata.uid) {
            return HashSet::new();
        }
        let failure = outcome.failure();
        if failure.is_none() {
            state.regressions.set(node.name(), &plan.regressed);
        }
        // Also of rules that do not cover the node any more.
        for deferred in state.deferred.values_mut() {
            deferred.remove(node.name());
        }
        for finding in plan.findings.iter().filter(|f| f.standing == Standing::Deferred) {
            let deferred = state.deferred.entry(Arc::clone(&finding.rule_uid)).or_default();
            deferred.insert(node.name().to_owned());
        }
        self.fill(&mut state, rules);
        self.ledger.enter(node.name(), plan, failure)
    }

    /// Gives back what a plan took up that came to nothing.
    pub(super) fn abandon(&self, node: &Node) {
        self.lock().give_back(node.name());
    }

    /// Has as many deferred nodes looked at again as there is room for.
    fn fill(&self, state: &mut State, rules: &RuleSet) {
        let State { regressions, coverage, deferred, .. } = state;
        deferred.retain(|uid, nodes| !nodes.is_empty() && rules.by_uid(uid).is_some());
        for (uid, nodes) in deferred {
            let Some(rule) = rules.by_uid(uid) else { continue };
            for _ in 0..regressions.room(rule, coverage.of(rule)) {
                let Some(node) = nodes.pop_first() else { break };
                self.look_again(&node);
            }
        }
    }

    /// Has all deferred nodes looked at again, where it is not known for how many there is room.
    fn look_again_at_deferred(&self, state: &mut State) {
        for node in state.deferred.drain().flat_map(|(_, nodes)| nodes).collect::<BTreeSet<_>>() {
            self.look_again(&node);
        }
    }

    fn look_again(&self, node: &str) {
        // The reader is gone only when the process ends.
        let _ = self.again.unbounded_send(ObjectRef::new(node));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts regressions anew from the records, and adds what plans have taken up since.
    fn recount(&mut self, nodes: &[Arc<Node>]) {
        self.regressions = Regressions::recount(nodes.iter().map(AsRef::as_ref));
        for (node, rules) in &self.reserved {
            for rule in rules {
                self.regressions.hold(rule, node);
            }
        }
    }

    /// Counts a node that is new or changed.
    fn follow(&mut self, node: &Node) {
        if let Some(rules) = &self.counted {
            self.coverage.follow(rules, node);
        }
    }

    fn give_back(&mut self, node: &str) {
        for rule in self.reserved.remove(node).unwrap_or_default() {
            self.regressions.release(&rule, node);
        }
    }

    fn forget(&mut self, node: &str) {
        self.reserved.remove(node);
        self.coverage.forget(node);
        self.heartbeats.forget(node);
        self.regressions.forget(node);
        self.awaiting.remove(node);
        for nodes in self.deferred.values_mut() {
            nodes.remove(node);
        }
    }

    /// Forgets every node that is not named.
    fn retain(&mut self, exists: &HashSet<&str>) {
        self.reserved.retain(|node, _| exists.contains(node.as_str()));
        self.regressions.retain(exists);
        self.heartbeats.retain(exists);
        self.awaiting.retain(|node| exists.contains(node.as_str()));
        for nodes in self.deferred.values_mut() {
            nodes.retain(|node| exists.contains(node.as_str()));
        }
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

    /// A node that these rules have let go of, and that is not ready any more.
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

    fn memory() -> (Memory, UnboundedReceiver<ObjectRef<Node>>) {
        let (ledger, _) = SharedLedger::new();
        Memory::new(Arc::new(ledger), Leadership::unlimited())
    }

    #[test]
    fn a_node_that_was_planned_twice_gives_back_all_that_its_plans_took_up() {
        let (memory, _looked_at) = memory();
        let (store, _) = reflector::store();
        let (one, both) = (
            Arc::new(RuleSet::new([rule("a")], [])),
            Arc::new(RuleSet::new([rule("a"), rule("b")], [])),
        );
        let node = regressed("n", &["a", "b"]);
        assert_eq!(memory.plan(&node, &one, &store).plan.regressed, ["a"]);
        assert_eq!(memory.plan(&node, &both, &store).plan.regressed, ["a", "b"]);
        memory.abandon(&node);
        let next = memory.plan(&regressed("m", &["a", "b"]), &both, &store).plan;
        assert_eq!(next.regressed, ["a", "b"], "there is room again");
    }

    #[test]
    fn a_deferred_node_is_looked_at_when_the_one_that_is_held_goes() {
        let (memory, mut looked_at) = memory();
        let (store, mut writer) = reflector::store();
        let rules = Arc::new(RuleSet::new([rule("a")], []));
        let [held, deferred] = ["held", "deferred"].map(|name| regressed(name, &["a"]));
        for node in [&held, &deferred] {
            writer.apply_watcher_event(&Event::Apply(node.clone()));
        }
        for node in [&held, &deferred] {
            let plan = memory.plan(node, &rules, &store).plan;
            memory.settle(node, &rules, &plan, &Outcome::Written, &store);
        }
        assert!(looked_at.try_recv().is_err(), "there is no room");
        memory.observe(&Ok(Event::Delete(held)), &store);
        assert_eq!(looked_at.try_recv().unwrap().name, "deferred");
    }

    /// A rule that may hold one regressed node, and two that regressed.
    struct Scene {
        memory: Memory,
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
            let scene = Self { memory: memory().0, store, writer, rules };
            scene.memory.observe(&Ok(Event::InitDone), &scene.store);
            scene
        }

        /// Whether the node is held by the plan that is made for it now, of which this comes.
        fn holds(&self, name: &str, outcome: &Outcome) -> bool {
            let node = self.store.get(&ObjectRef::new(name)).unwrap();
            let plan = self.memory.plan(&node, &self.rules, &self.store).plan;
            self.memory.settle(&node, &self.rules, &plan, outcome, &self.store);
            !plan.regressed.is_empty()
        }
    }

    fn failure() -> Failure {
        Failure { reason: "Timeout".to_owned(), message: "no answer".to_owned() }
    }

    #[test]
    fn a_list_that_is_older_than_what_was_written_makes_no_room() {
        let scene = Scene::new();
        assert!(scene.holds("a", &Outcome::Written));
        scene.memory.observe(&Ok(Event::InitDone), &scene.store);
        assert!(!scene.holds("b", &Outcome::Written));
    }

    #[test]
    fn a_write_that_may_have_come_about_makes_no_room() {
        let mut scene = Scene::new();
        assert!(scene.holds("a", &Outcome::Unknown(failure())));
        assert!(!scene.holds("b", &Outcome::Written));
        // It is found out when the node is written again, or goes.
        assert!(scene.holds("a", &Outcome::Failed(failure())));
        assert!(scene.holds("b", &Outcome::Unknown(failure())));
        assert!(!scene.holds("a", &Outcome::Written));
        let gone = Event::Delete(regressed("b", &["r"]));
        scene.writer.apply_watcher_event(&gone);
        scene.memory.observe(&Ok(gone), &scene.store);
        assert!(scene.holds("a", &Outcome::Written));
    }
}
