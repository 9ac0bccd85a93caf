//! The evaluation store: the node controller records how nodes stand to rules, and the rule controller
//! reads it and is notified.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use node_readiness_engine::{Evaluations, Failure, NodePlan};

use crate::clock;
use crate::notifications::Notifications;

/// A [`Evaluations`] whose news are told to the rule path.
#[derive(Debug)]
pub struct EvaluationStore {
    evaluations: Mutex<Evaluations>,
    notifications: Arc<Notifications>,
}

impl EvaluationStore {
    /// An empty store, and the uids of rules whose evaluations changed.
    pub fn new() -> (Self, impl Stream<Item = Arc<str>> + Send + 'static) {
        let notifications = Arc::new(Notifications::default());
        let batches = Arc::clone(&notifications).batches();
        (Self { evaluations: Mutex::default(), notifications }, batches)
    }

    /// Enters what was found on a node, once it was applied or could not be. Returns the uids of
    /// the rules for which that is news.
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

    /// Forgets a node that is gone.
    pub fn forget(&self, node: &str) {
        let changed = self.lock().forget(node);
        self.notifications.notify(changed);
    }

    /// Forgets every node that does not exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        let changed = self.lock().retain(exists);
        self.notifications.notify(changed);
    }

    /// Forgets a rule that is gone.
    pub fn forget_rule(&self, uid: &str) {
        self.lock().forget_rule(uid);
    }

    /// Notifies of a rule for a change that the store does not have.
    pub fn notify(&self, rule_uid: Arc<str>) {
        self.notifications.notify([rule_uid]);
    }

    /// Reads the evaluations. The store stays locked while `read` runs.
    pub fn read<T>(&self, read: impl FnOnce(&Evaluations) -> T) -> T {
        read(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Evaluations> {
        // A panic elsewhere cannot leave the store half-written in a way that matters: the next
        // evaluation of the node overwrites the entry.
        self.evaluations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
