//! The ledger that node path and rule path share: one enters, the other reads and is told.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use node_readiness_engine::{Failure, Ledger, NodePlan};

use crate::clock;
use crate::news::News;

/// A [`Ledger`] whose news are told to the rule path.
#[derive(Debug)]
pub struct SharedLedger {
    ledger: Mutex<Ledger>,
    news: Arc<News>,
}

impl SharedLedger {
    /// An empty ledger, and the uids of rules for which something changed.
    pub fn new() -> (Self, impl Stream<Item = Arc<str>> + Send + 'static) {
        let news = Arc::new(News::default());
        let told = Arc::clone(&news).told();
        (Self { ledger: Mutex::default(), news }, told)
    }

    /// Enters what was found on a node, once it was applied or could not be. Returns the uids of
    /// the rules for which that is news.
    pub fn enter(
        &self,
        node: &str,
        plan: &NodePlan,
        failure: Option<&Failure>,
    ) -> HashSet<Arc<str>> {
        let news = self.lock().enter(node, plan, failure, clock::now());
        self.news.tell(news.iter().cloned());
        news
    }

    /// Forgets a node that is gone.
    pub fn forget(&self, node: &str) {
        let news = self.lock().forget(node);
        self.news.tell(news);
    }

    /// Forgets every node that does not exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        let news = self.lock().retain(exists);
        self.news.tell(news);
    }

    /// Forgets a rule that is gone.
    pub fn forget_rule(&self, uid: &str) {
        self.lock().forget_rule(uid);
    }

    /// Tells of a rule of which something changed that the ledger does not have.
    pub fn notify(&self, rule_uid: Arc<str>) {
        self.news.tell([rule_uid]);
    }

    /// Reads the ledger. It stays locked while `read` runs.
    pub fn read<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A panic elsewhere cannot leave the ledger half-written in a way that matters: the next
        // evaluation of the node overwrites the entry.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
