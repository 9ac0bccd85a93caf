//! What the node path remembers between two looks at a node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use node_readiness_engine::{
    Failure, Heartbeats, Node, NodePlan, Regressions, RuleSet, Situation, Standing, plan,
};

use crate::clock;
use crate::leadership::Leadership;
use crate::ledger::SharedLedger;
use crate::watches::NodeStore;

/// Heartbeats, limits, and who waits for what.
pub(crate) struct Memory {
    ledger: Arc<SharedLedger>,
    leadership: Leadership,
    started: Instant,
    state: Mutex<State>,
    again: UnboundedSender<ObjectRef<Node>>,
}

#[derive(Default)]
struct State {
    heartbeats: Heartbeats,
    regressions: Regressions,
    /// Nodes for which the next heartbeat decides something.
    awaiting: HashSet<String>,
    /// By the uid of the rule: nodes that wait for room under its limit.
    deferred: HashMap<String, BTreeSet<String>>,
}

/// A plan, and the limits that it takes up until it is settled.
pub(super) struct Reserved {
    pub(super) plan: NodePlan,
    reserved: Vec<String>,
}

impl Memory {
    /// An empty memory, and the nodes that are to be looked at again although they did not change.
    pub(crate) fn new(
        ledger: Arc<SharedLedger>,
        leadership: Leadership,
    ) -> (Self, UnboundedReceiver<ObjectRef<Node>>) {
        let (again, look_again) = unbounded();
        let (started, state) = (Instant::now(), Mutex::default());
        (Self { ledger, leadership, started, state, again }, look_again)
    }

    /// Takes in what the watch of nodes says.
    pub(crate) fn observe(&self, event: &watcher::Result<Event<Node>>, store: &NodeStore) {
        let uptime = self.started.elapsed();
        let mut state = self.lock();
        match event {
            Err(_) => return state.heartbeats.interrupt(),
            Ok(_) if state.heartbeats.is_interrupted() => state.heartbeats.resume(uptime),
            Ok(_) => {}
        }
        match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => {
                // Who leads has its own count, which is ahead of what it reads.
                if !self.leadership.may_write() {
                    state.regressions.follow(node);
                }
                if state.heartbeats.observe(node, uptime) && state.awaiting.remove(node.name()) {
                    self.look_again(node.name());
                }
            }
            Ok(Event::Delete(node)) => {
                state.forget(node.name());
                self.ledger.forget(node.name());
            }
            // Nodes may have come and gone while nobody watched.
            Ok(Event::InitDone) => {
                let nodes = store.state();
                let names: HashSet<_> = nodes.iter().map(|node| node.name()).collect();
                state.heartbeats.retain(&names);
                state.regressions = Regressions::recount(nodes.iter().map(AsRef::as_ref));
                self.ledger.retain(|node| names.contains(node));
            }
            Ok(Event::Init) | Err(_) => {}
        }
    }

    /// Plans a node, and takes up what the plan needs of the rules' limits, so that two nodes that
    /// are planned at the same time cannot take the same room.
    pub(super) fn plan(&self, node: &Node, rules: &RuleSet) -> Reserved {
        let mut state = self.lock();
        let plan = self.ledger.read(|ledger| {
            let situation = Situation {
                now: clock::now(),
                uptime: self.started.elapsed(),
                heartbeats: &state.heartbeats,
                regressions: &state.regressions,
                ledger,
            };
            plan(node, rules, &situation)
        });
        let mut reserved = plan.regressed.clone();
        reserved.retain(|rule| state.regressions.hold(rule, node.name()));
        if plan.findings.iter().any(|finding| finding.evaluation.awaits_heartbeat()) {
            state.awaiting.insert(node.name().to_owned());
        } else {
            state.awaiting.remove(node.name());
        }
        Reserved { plan, reserved }
    }

    /// Takes in what came of a plan. Returns the uids of the rules for which that is news.
    pub(super) fn settle(
        &self,
        node: &Node,
        rules: &RuleSet,
        reserved: &Reserved,
        failure: Option<&Failure>,
    ) -> HashSet<String> {
        if failure.is_some() {
            self.abandon(node, reserved);
        }
        let news = self.ledger.enter(node.name(), &reserved.plan, failure);
        let mut state = self.lock();
        if failure.is_none() {
            for rule in rules.iter().filter(|rule| !reserved.plan.regressed.contains(&rule.name)) {
                state.regressions.release(&rule.name, node.name());
            }
        }
        for finding in &reserved.plan.findings {
            let deferred = state.deferred.entry(finding.rule_uid.clone()).or_default();
            if finding.standing == Standing::Deferred {
                deferred.insert(node.name().to_owned());
            } else {
                deferred.remove(node.name());
            }
        }
        self.fill(&mut state, rules);
        news
    }

    /// Gives back what a plan took up that was not carried out.
    pub(super) fn abandon(&self, node: &Node, reserved: &Reserved) {
        let mut state = self.lock();
        for rule in &reserved.reserved {
            state.regressions.release(rule, node.name());
        }
    }

    /// Has as many deferred nodes looked at again as there is room for.
    fn fill(&self, state: &mut State, rules: &RuleSet) {
        let State { regressions, deferred, .. } = state;
        deferred.retain(|_, nodes| !nodes.is_empty());
        for rule in rules.iter() {
            let Some(nodes) = deferred.get_mut(&rule.uid) else { continue };
            let covered = self.ledger.read(|ledger| ledger.covered(&rule.uid));
            for _ in 0..regressions.room(rule, covered) {
                let Some(node) = nodes.pop_first() else { break };
                self.look_again(&node);
            }
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
    fn forget(&mut self, node: &str) {
        self.heartbeats.forget(node);
        self.regressions.forget(node);
        self.awaiting.remove(node);
        for nodes in self.deferred.values_mut() {
            nodes.remove(node);
        }
    }
}
