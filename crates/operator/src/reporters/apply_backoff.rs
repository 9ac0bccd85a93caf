//! Rules whose reporters could not be applied, and that wait to be tried again.
//!
//! A rule is looked at whenever there is news of its nodes. That is no reason to send again what was
//! just refused; a new spec is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::{Resource, ResourceExt};
use node_readiness_engine::status::Reporters;

/// Rules that wait, by uid.
#[derive(Debug, Default)]
pub(crate) struct ApplyBackoff {
    waits: Mutex<HashMap<String, Wait>>,
}

/// Why and until when a rule waits.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    generation: Option<i64>,
    until: Instant,
    /// How its reporters are because of what failed.
    pub(crate) failure: Reporters,
}

impl Wait {
    /// How long it still waits.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl ApplyBackoff {
    /// Has a rule wait.
    pub(crate) fn start(&self, rule: &impl Resource, wait: Duration, failure: Reporters) {
        let generation = rule.meta().generation;
        let waiting = Wait { generation, until: Instant::now() + wait, failure };
        let mut waits = self.lock();
        waits.retain(|_, waiting| !waiting.left().is_zero());
        waits.insert(rule.uid().unwrap_or_default(), waiting);
    }

    /// Why a rule with this spec waits, if it does.
    pub(crate) fn of(&self, rule: &impl Resource) -> Option<Wait> {
        let waiting = self.lock().get(&rule.uid()?)?.clone();
        (waiting.generation == rule.meta().generation && !waiting.left().is_zero())
            .then_some(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
