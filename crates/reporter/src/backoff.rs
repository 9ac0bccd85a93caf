//! Backoff after failed requests. The caller passes the random number.

use std::time::Duration;

use crate::api_error::ApiError;

/// The number of consecutive conflicts that are retried almost at once.
///
/// In a conflict somebody else, mostly kubelet, wrote the Node within milliseconds. The next try will most
/// likely succeed. After more conflicts something is wrong, and they count as failures.
const QUICK_CONFLICTS: u32 = 5;

/// The longest wait after a conflict.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// Waits that double from `first` to `longest`.
#[derive(Clone, Copy, Debug)]
pub struct BackoffRange {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

/// Counts consecutive failures.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    conflicts: u32,
}

impl Backoff {
    /// Records a success.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Records a failure; `dice` is from 0 to 1. Returns the wait: half to all of the doubled wait, as jitter,
    /// and at least the server's `Retry-After`, within the range.
    pub(crate) fn failed(&mut self, error: &ApiError, range: BackoffRange, dice: f64) -> Duration {
        if error.is_conflict() && self.conflicts < QUICK_CONFLICTS {
            self.conflicts += 1;
            return AFTER_CONFLICT.mul_f64(dice);
        }
        let doubled = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = range.first.saturating_mul(doubled).min(range.longest);
        let asked = match error {
            ApiError::Refused { retry_after: Some(asked), .. } => (*asked).min(range.longest),
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
        let mut backoff = Backoff::default();
        let error = ApiError::Deadline(Duration::from_secs(10));
        let waits: Vec<_> = (0..8).map(|_| backoff.failed(&error, RANGE, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        for _ in 0..100 {
            assert_eq!(backoff.failed(&error, RANGE, 0.0), Duration::from_secs(30));
        }
        backoff.succeeded();
        assert_eq!(backoff.failed(&error, RANGE, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn the_server_may_ask_for_longer_within_reason() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(&refused(429, Some(9)), RANGE, 0.0), Duration::from_secs(9));
        assert_eq!(backoff.failed(&refused(429, Some(86400)), RANGE, 0.0), Duration::from_mins(1));
    }

    #[test]
    fn a_conflict_is_retried_quickly_but_not_for_ever() {
        let mut backoff = Backoff::default();
        let conflict = refused(409, None);
        for _ in 0..QUICK_CONFLICTS {
            assert!(backoff.failed(&conflict, RANGE, 1.0) <= AFTER_CONFLICT);
        }
        assert_eq!(backoff.failed(&conflict, RANGE, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.failed(&conflict, RANGE, 1.0), Duration::from_secs(2));
        backoff.succeeded();
        assert!(backoff.failed(&conflict, RANGE, 1.0) <= AFTER_CONFLICT);
    }
}
