//! Tracks how long nodes wait for the controller, for the latency metric.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The time at which each waiting node began to wait.
#[derive(Debug, Default)]
pub(super) struct LatencyTracker(Mutex<HashMap<String, Instant>>);

impl LatencyTracker {
    /// Starts the latency of a node that may need a write. A node that is waiting keeps its start.
    pub(super) fn start(&self, node: &str) {
        self.start_at(node, Instant::now());
    }

    /// Continues the latency of a node that could not be written.
    pub(super) fn start_at(&self, node: &str, since: Instant) {
        let mut latency = self.lock();
        let known = latency.entry(node.to_owned()).or_insert(since);
        *known = since.min(*known);
    }

    /// Ends the latency of a node and returns its start. A node that was only requeued starts now.
    pub(super) fn finish(&self, node: &str) -> Instant {
        self.lock().remove(node).unwrap_or_else(Instant::now)
    }

    /// Removes a deleted node.
    pub(super) fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    /// Removes every node that is not named.
    pub(super) fn retain(&self, exists: &HashSet<&str>) {
        self.lock().retain(|node, _| exists.contains(node.as_str()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn latency_counts_from_the_earliest_start() {
        let latency = LatencyTracker::default();
        let now = Instant::now();
        let before = now.checked_sub(Duration::from_mins(1)).unwrap();
        latency.start_at("a", now);
        latency.start_at("a", before);
        latency.start("a");
        assert_eq!(latency.finish("a"), before);
        assert!(latency.finish("a") >= now, "the wait has ended");
    }
}
