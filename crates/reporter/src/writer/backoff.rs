//! How long to wait after a failed write. Pure: the dice are the caller's.

use std::time::Duration;

use super::ApiError;

/// How often a conflict in a row is answered with a fresh read nearly at once.
///
/// A conflict means that someone else, mostly kubelet, wrote the Node in the milliseconds between
/// our read and our write. The next try will most likely do. But should every try meet one,
/// something is wrong and it becomes a failure like any other.
const QUICK_CONFLICTS: u32 = 5;

/// Wait before such a fresh read, at most.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// Waits that double from `first` to `longest`.
#[derive(Clone, Copy, Debug)]
pub struct BackoffRange {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub longest: Duration,
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    range: BackoffRange,
    failures: u32,
    conflicts: u32,
}

impl Backoff {
    pub(super) fn new(range: BackoffRange) -> Self {
        Self { range, failures: 0, conflicts: 0 }
    }

    /// A request chain succeeded: start anew. Returns whether anything had failed before, beyond a
    /// conflict.
    pub(super) fn succeeded(&mut self) -> bool {
        let recovered = self.failures > 0;
        *self = Self::new(self.range);
        recovered
    }

    /// Takes a failure; `dice` is from 0 to 1. Returns how long to wait: half to all of the doubled
    /// wait, so that reporters which failed together do not come back together, and at least as long
    /// as the server asks for, within the range.
    pub(super) fn failed(&mut self, error: &ApiError, dice: f64) -> Duration {
        if error.is_conflict() && self.conflicts < QUICK_CONFLICTS {
            self.conflicts += 1;
            return AFTER_CONFLICT.mul_f64(dice);
        }
        let doubled = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = self.range.first.saturating_mul(doubled).min(self.range.longest);
        let asked = match error {
            ApiError::Refused { retry_after: Some(asked), .. } => (*asked).min(self.range.longest),
            _ => Duration::ZERO,
        };
        wait.mul_f64(0.5 + dice / 2.0).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: BackoffRange =
        BackoffRange { first: Duration::from_secs(1), longest: Duration::from_mins(1) };

    fn refused(code: u16, retry_after: Option<u64>) -> ApiError {
        ApiError::Refused {
            code,
            message: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(RANGE);
        let error = ApiError::Deadline(Duration::from_secs(10));
        let waits: Vec<_> = (0..8).map(|_| backoff.failed(&error, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        for _ in 0..100 {
            assert_eq!(backoff.failed(&error, 0.0), Duration::from_secs(30));
        }
        assert!(backoff.succeeded());
        assert_eq!(backoff.failed(&error, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn the_server_may_ask_for_longer_within_reason() {
        let mut backoff = Backoff::new(RANGE);
        assert_eq!(backoff.failed(&refused(429, Some(9)), 0.0), Duration::from_secs(9));
        assert_eq!(backoff.failed(&refused(429, Some(86400)), 0.0), Duration::from_mins(1));
    }

    #[test]
    fn a_conflict_is_retried_quickly_but_not_for_ever() {
        let mut backoff = Backoff::new(RANGE);
        let conflict = refused(409, None);
        for _ in 0..QUICK_CONFLICTS {
            assert!(backoff.failed(&conflict, 1.0) <= AFTER_CONFLICT);
        }
        assert_eq!(backoff.failed(&conflict, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.failed(&conflict, 1.0), Duration::from_secs(2));
        backoff.succeeded();
        assert!(backoff.failed(&conflict, 1.0) <= AFTER_CONFLICT);
        assert!(!backoff.succeeded(), "a conflict alone is no failure to recover from");
    }
}
