//! Rules of which a policy, or what it limits, has just been written.
//!
//! API servers learn of both by watching, each by itself. What depends on their having seen it waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long API servers are given. A policy is compiled within a second of its being seen; the rest is
/// room for a slow watch.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// When what was written, by the uid of its rule.
#[derive(Debug, Default)]
pub(super) struct Settling {
    written: Mutex<HashMap<String, Instant>>,
}

impl Settling {
    /// Notes a write.
    pub(super) fn note(&self, rule: &str) {
        let mut written = self.lock();
        written.retain(|_, at| at.elapsed() < SETTLE);
        written.insert(rule.to_owned(), Instant::now());
    }

    /// How long a rule still has to wait.
    pub(super) fn left(&self, rule: &str) -> Option<Duration> {
        let left = SETTLE.checked_sub(self.lock().get(rule)?.elapsed())?;
        (!left.is_zero()).then_some(left)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_waits_for_what_was_written_for_it() {
        let settling = Settling::default();
        settling.note("a");
        assert!(settling.left("a").is_some_and(|left| left <= SETTLE));
        assert!(settling.left("b").is_none());
        let before = Instant::now().checked_sub(SETTLE).unwrap();
        settling.lock().insert("a".to_owned(), before);
        assert!(settling.left("a").is_none());
    }
}
