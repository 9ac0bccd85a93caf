//! Backoff for rules whose reporters failed to apply.
//!
//! A rule is reconciled whenever its nodes change. Such a reconcile does not repeat a failed apply, but a new
//! spec does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::{Resource, ResourceExt};
use node_readiness_engine::status::Reporters;

/// The rules in backoff, by uid.
#[derive(Debug, Default)]
pub(crate) struct ApplyBackoff {
    waits: Mutex<HashMap<String, Wait>>,
}

/// The backoff of one rule.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    generation: Option<i64>,
    until: Instant,
    /// The state of the reporters after the failure.
    pub(crate) failure: Reporters,
}

impl Wait {
    /// Returns the remaining wait.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl ApplyBackoff {
    /// Starts the backoff of a rule.
    pub(crate) fn start(&self, rule: &impl Resource, wait: Duration, failure: Reporters) {
        let generation = rule.meta().generation;
        let waiting = Wait { generation, until: Instant::now() + wait, failure };
        let mut waits = self.lock();
        waits.retain(|_, waiting| !waiting.left().is_zero());
        waits.insert(rule.uid().unwrap_or_default(), waiting);
    }

    /// Returns the backoff of a rule with this spec, if there is one.
    pub(crate) fn of(&self, rule: &impl Resource) -> Option<Wait> {
        let waiting = self.lock().get(&rule.uid()?)?.clone();
        (waiting.generation == rule.meta().generation && !waiting.left().is_zero())
            .then_some(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
