//! The evaluation store. The node controller records the result of each rule on each node. The rule controller
//! reads the results and is notified of changes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use node_readiness_engine::{Evaluations, Failure, NodePlan};

use crate::clock;
use crate::notifications::Notifications;

/// The [`Evaluations`] of all nodes. It notifies the rule controller of changes.
#[derive(Debug)]
pub struct EvaluationStore {
    evaluations: Mutex<Evaluations>,
    notifications: Arc<Notifications>,
}

impl EvaluationStore {
    /// Returns an empty store, and the stream of uids of rules whose evaluations changed.
    pub fn new() -> (Self, impl Stream<Item = Arc<str>> + Send + 'static) {
        let notifications = Arc::new(Notifications::default());
        let batches = Arc::clone(&notifications).batches();
        (Self { evaluations: Mutex::default(), notifications }, batches)
    }

    /// Records the results of a plan after it was applied or failed. Returns the uids of the rules whose
    /// evaluation of the node changed.
    pub fn record(
        &self,
        node: &str,
        plan: &NodePlan,
        failure: Option<&Failure>,
    ) -> HashSet<Arc<str>> {
        let changed = self.lock().record(node, plan, failure, clock::now());
        self.notifications.notify(changed.iter().cloned());
        changed
    }

    /// Removes a deleted node.
    pub fn forget(&self, node: &str) {
        let changed = self.lock().forget(node);
        self.notifications.notify(changed);
    }

    /// Removes every node that does not exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        let changed = self.lock().retain(exists);
        self.notifications.notify(changed);
    }

    /// Removes a deleted rule.
    pub fn forget_rule(&self, uid: &str) {
        self.lock().forget_rule(uid);
    }

    /// Notifies the rule controller of a change that is not in the store.
    pub fn notify(&self, rule_uid: Arc<str>) {
        self.notifications.notify([rule_uid]);
    }

    /// Reads the evaluations. The store is locked while `read` runs.
    pub fn read<T>(&self, read: impl FnOnce(&Evaluations) -> T) -> T {
        read(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Evaluations> {
        // A panic elsewhere cannot leave the store inconsistent in a way that matters: the next evaluation of
        // the node replaces the entry.
        self.evaluations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
