//! The operator's clock, the one place that reads the time for decisions.

use k8s_openapi::jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Now, for a Lease, which keeps microseconds. Nothing is decided by it.
pub(crate) fn precisely() -> Timestamp {
    Timestamp::now()
}

/// Now, in whole seconds: that is what Kubernetes keeps of a time, and a status that differed from
/// its stored form by a fraction would be written for ever.
pub(crate) fn now() -> Timestamp {
    let seconds = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    Timestamp::now().round(seconds).expect("rounding to seconds never overflows towards zero")
}
