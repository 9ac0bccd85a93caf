//! When a failed apply or delete of a group of objects is tried again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use node_readiness_engine::reporter::ReporterSet;
use node_readiness_engine::status::Reporters;

use crate::backoff::Backoff;

/// The waits after failures, by name of the group. A set that is to look otherwise now does not wait.
#[derive(Debug, Default)]
pub(super) struct Retries {
    backoff: Backoff,
    failures: HashMap<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    /// What was to be applied; `None` for a delete.
    wanted: Option<ReporterSet>,
    until: Instant,
    state: Reporters,
}

impl Retries {
    /// Returns the remaining wait, and the state of the reporters after the failure.
    pub(super) fn wait(
        &self,
        name: &str,
        wanted: Option<&ReporterSet>,
    ) -> Option<(Duration, Reporters)> {
        let failure = self.failures.get(name)?;
        let left = failure.until.saturating_duration_since(Instant::now());
        let waits = failure.wanted.as_ref() == wanted && !left.is_zero();
        waits.then(|| (left, failure.state.clone()))
    }

    /// Records a failure and returns the wait.
    pub(super) fn failed(
        &mut self,
        name: &str,
        wanted: Option<&ReporterSet>,
        state: Reporters,
    ) -> Duration {
        let wait = self.backoff.failed(name);
        let failure = Failure { wanted: wanted.cloned(), until: Instant::now() + wait, state };
        self.failures.insert(name.to_owned(), failure);
        wait
    }

    /// Records a success.
    pub(super) fn succeeded(&mut self, name: &str) {
        self.backoff.succeeded(name);
        self.failures.remove(name);
    }
}
