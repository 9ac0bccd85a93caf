//! Propagation delay of policies and of the permissions that they limit.
//!
//! Each API server receives both through its own watch, so dependent steps wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The length of the delay. An API server compiles a policy within a second after it receives it; the rest is for
/// a slow watch.
const DELAY: Duration = Duration::from_secs(3);

/// The time of the last write, by the name of a reporter set or by another key.
#[derive(Debug, Default)]
pub(crate) struct PropagationDelay {
    written: Mutex<HashMap<String, Instant>>,
}

impl PropagationDelay {
    /// Starts the delay, unless nothing was written. A failed write may have been applied.
    pub(crate) fn start<E>(&self, of: &str, written: &Result<bool, E>) {
        if matches!(written, Ok(false)) {
            return;
        }
        let mut all = self.lock();
        all.retain(|_, at| at.elapsed() < DELAY);
        all.insert(of.to_owned(), Instant::now());
    }

    /// Returns the remaining delay.
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
    fn a_write_delays_only_its_own_set() {
        let propagation = PropagationDelay::default();
        propagation.start("a", &Ok::<_, ()>(true));
        assert!(propagation.left("a").is_some_and(|left| left <= DELAY));
        assert!(propagation.left("b").is_none());
        let before = Instant::now().checked_sub(DELAY).unwrap();
        propagation.lock().insert("a".to_owned(), before);
        assert!(propagation.left("a").is_none());
    }

    #[test]
    fn a_failed_write_starts_the_delay_and_no_write_does_not() {
        let propagation = PropagationDelay::default();
        propagation.start("failed", &Err("no answer"));
        propagation.start("unchanged", &Ok::<_, ()>(false));
        assert!(propagation.left("failed").is_some());
        assert!(propagation.left("unchanged").is_none());
    }
}
