//! Policies that were just written, or of which what they limit was.
//!
//! API servers learn of both by watching, each by itself. What depends on their having seen it waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long API servers are given. A policy is compiled within a second of its being seen; the rest is
/// room for a slow watch.
const DELAY: Duration = Duration::from_secs(3);

/// When what was written, by the uid of its rule, or by another name for what belongs to none.
#[derive(Debug, Default)]
pub(crate) struct PropagationDelay {
    written: Mutex<HashMap<String, Instant>>,
}

impl PropagationDelay {
    /// Notes a write, unless there was none. One that failed may have come about all the same.
    pub(crate) fn start<E>(&self, of: &str, written: &Result<bool, E>) {
        if matches!(written, Ok(false)) {
            return;
        }
        let mut all = self.lock();
        all.retain(|_, at| at.elapsed() < DELAY);
        all.insert(of.to_owned(), Instant::now());
    }

    /// How long what depends on it still has to wait.
    pub(crate) fn left(&self, of: &str) -> Option<Duration> {
        let left = DELAY.checked_sub(self.lock().get(of)?.elapsed())?;
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
        let propagation = PropagationDelay::default();
        propagation.start("a", &Ok::<_, ()>(true));
        assert!(propagation.left("a").is_some_and(|left| left <= DELAY));
        assert!(propagation.left("b").is_none());
        let before = Instant::now().checked_sub(DELAY).unwrap();
        propagation.lock().insert("a".to_owned(), before);
        assert!(propagation.left("a").is_none());
    }

    #[test]
    fn who_may_have_written_waits_and_who_did_not_does_not() {
        let propagation = PropagationDelay::default();
        propagation.start("failed", &Err("no answer"));
        propagation.start("as it was", &Ok::<_, ()>(false));
        assert!(propagation.left("failed").is_some());
        assert!(propagation.left("as it was").is_none());
    }
}
