//! Since when nodes wait for the node path to answer to what became of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Since when each node waits, for those that do.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<HashMap<String, Instant>>);

impl Waits {
    /// Notes that something was seen that may ask for a write. A node that waits already waits since
    /// then.
    pub(super) fn note(&self, node: &str) {
        self.note_since(node, Instant::now());
    }

    /// Notes that a node goes on to wait, since it could not be written.
    pub(super) fn note_since(&self, node: &str, since: Instant) {
        let mut waits = self.lock();
        let known = waits.entry(node.to_owned()).or_insert(since);
        *known = since.min(*known);
    }

    /// Ends a node's wait and returns since when it waited; one that is looked at only because time
    /// passed waits since now.
    pub(super) fn end(&self, node: &str) -> Instant {
        self.lock().remove(node).unwrap_or_else(Instant::now)
    }

    /// Forgets a node that is gone.
    pub(super) fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    /// Forgets every node that is not named.
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
    fn a_node_waits_since_the_first_of_what_it_waits_for() {
        let waits = Waits::default();
        let now = Instant::now();
        let before = now.checked_sub(Duration::from_mins(1)).unwrap();
        waits.note_since("a", now);
        waits.note_since("a", before);
        waits.note("a");
        assert_eq!(waits.end("a"), before);
        assert!(waits.end("a") >= now, "the wait has ended");
    }
}
