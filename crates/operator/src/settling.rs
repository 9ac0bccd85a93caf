//! Policies that were just written, or of which what they limit was.
//!
//! API servers learn of both by watching, each by itself. What depends on their having seen it waits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long API servers are given. A policy is compiled within a second of its being seen; the rest is
/// room for a slow watch.
const SETTLE: Duration = Duration::from_secs(3);

/// When what was written, by the uid of its rule, or by another name for what belongs to none.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    written: Mutex<HashMap<String, Instant>>,
}

impl Settling {
    /// Notes a write, unless there was none. One that failed may have come about all the same.
    pub(crate) fn note<E>(&self, of: &str, written: &Result<bool, E>) {
        if matches!(written, Ok(false)) {
            return;
        }
        let mut all = self.lock();
        all.retain(|_, at| at.elapsed() < SETTLE);
        all.insert(of.to_owned(), Instant::now());
    }

    /// How long what depends on it still has to wait.
    pub(crate) fn left(&self, of: &str) -> Option<Duration> {
        let left = SETTLE.checked_sub(self.lock().get(of)?.elapsed())?;
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
        settling.note("a", &Ok::<_, ()>(true));
        assert!(settling.left("a").is_some_and(|left| left <= SETTLE));
        assert!(settling.left("b").is_none());
        let before = Instant::now().checked_sub(SETTLE).unwrap();
        settling.lock().insert("a".to_owned(), before);
        assert!(settling.left("a").is_none());
    }

    #[test]
    fn who_may_have_written_waits_and_who_did_not_does_not() {
        let settling = Settling::default();
        settling.note("failed", &Err("no answer"));
        settling.note("as it was", &Ok::<_, ()>(false));
        assert!(settling.left("failed").is_some());
        assert!(settling.left("as it was").is_none());
    }
}
