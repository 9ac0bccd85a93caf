//! Limits how often a rule's status is written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two writes of one rule's status.
const INTERVAL: Duration = Duration::from_secs(1);

/// The last write of each status, by name of the rule.
#[derive(Debug, Default)]
pub(super) struct RateLimiter(Mutex<HashMap<String, Instant>>);

impl RateLimiter {
    /// Returns the wait until the next write of a rule; `None` if it may be written now.
    pub(super) fn wait(&self, rule: &str, now: Instant) -> Option<Duration> {
        let next = *self.lock().get(rule)? + INTERVAL;
        next.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// Records a write.
    pub(super) fn acquire(&self, rule: &str, now: Instant) {
        let mut taken = self.lock();
        // Removes rules that need not wait, so the map stays small.
        taken.retain(|_, at| now.duration_since(*at) < INTERVAL);
        taken.insert(rule.to_owned(), now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_once_a_second_and_delays_no_other() {
        let (rate_limiter, start) = (RateLimiter::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(rate_limiter.wait("a", start), None);
        rate_limiter.acquire("a", start);
        assert_eq!(rate_limiter.wait("a", after(300)), Some(Duration::from_millis(700)));
        assert_eq!(rate_limiter.wait("b", after(300)), None);
        assert_eq!(rate_limiter.wait("a", after(1000)), None);
        rate_limiter.acquire("b", after(1000));
        assert_eq!(rate_limiter.lock().len(), 1, "a does not wait any more");
    }
}
