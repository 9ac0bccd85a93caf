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
pub(super) struct Resting {
    rests: Mutex<HashMap<String, Rest>>,
}

/// Why and until when a rule waits.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    generation: Option<i64>,
    until: Instant,
    /// How its reporters are because of what failed.
    pub(super) failure: Reporters,
}

impl Rest {
    /// How long it still waits.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl Resting {
    /// Has a rule wait.
    pub(super) fn rest(&self, rule: &impl Resource, wait: Duration, failure: Reporters) {
        let generation = rule.meta().generation;
        let rest = Rest { generation, until: Instant::now() + wait, failure };
        let mut rests = self.lock();
        rests.retain(|_, rest| !rest.left().is_zero());
        rests.insert(rule.uid().unwrap_or_default(), rest);
    }

    /// Why a rule with this spec waits, if it does.
    pub(super) fn of(&self, rule: &impl Resource) -> Option<Rest> {
        let rest = self.lock().get(&rule.uid()?)?.clone();
        (rest.generation == rule.meta().generation && !rest.left().is_zero()).then_some(rest)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Rest>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
