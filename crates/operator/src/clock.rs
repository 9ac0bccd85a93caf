//! The operator's clock: the only place that reads the time for decisions.

use k8s_openapi::jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Returns the time in microseconds, for a Lease. No decision depends on it.
pub(crate) fn precisely() -> Timestamp {
    Timestamp::now()
}

/// Returns the time in whole seconds, because Kubernetes stores no fractions. A status with fractions would
/// differ from its stored form and be written for ever.
pub(crate) fn now() -> Timestamp {
    let seconds = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    Timestamp::now().round(seconds).expect("rounding to seconds never overflows towards zero")
}
