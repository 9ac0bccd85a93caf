//! Exponential backoff for each failing object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Consecutive failures, by object. One failing object does not delay the others.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: Mutex<HashMap<String, Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Backoff {
    /// Records a failure and returns the wait: it doubles each time, up to five minutes, minus up to a fifth as
    /// jitter.
    pub(crate) fn failed(&self, object: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // After this time without a failure, an object starts over.
        failures.retain(|_, known| known.last.elapsed() < 2 * LONGEST);
        let known = failures
            .entry(object.to_owned())
            .or_insert_with(|| Failures { count: 0, last: Instant::now() });
        let wait = delay(known.count);
        *known = Failures { count: known.count.saturating_add(1), last: Instant::now() };
        wait.mul_f64(1.0 - fastrand::f64() / 5.0)
    }

    /// Returns the number of consecutive failures of an object.
    pub(crate) fn in_a_row(&self, object: &str) -> u32 {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(object).map_or(0, |known| known.count)
    }

    /// Records a success.
    pub(crate) fn succeeded(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

fn delay(failures: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<_> = (0..11).map(|n| delay(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn a_success_resets_the_backoff_and_objects_back_off_independently() {
        let retries = Backoff::default();
        retries.failed("a");
        retries.failed("a");
        assert!(retries.failed("a") > Duration::from_secs(3));
        assert_eq!((retries.in_a_row("a"), retries.in_a_row("b")), (3, 0));
        assert!(retries.failed("b") <= FIRST);
        retries.succeeded("a");
        assert_eq!(retries.in_a_row("a"), 0);
        assert!(retries.failed("a") <= FIRST);
    }
}
