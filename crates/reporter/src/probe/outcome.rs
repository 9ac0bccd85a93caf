//! The outcome of one probe. Its text depends only on what happened, so the same event always has the same
//! text.

use super::error::ProbeError;

/// The maximum length of a condition's message, in characters.
const MESSAGE_LIMIT: usize = 256;

/// The outcome of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is a success.
    pub healthy: bool,
    /// The condition's reason, in `CamelCase`.
    pub reason: &'static str,
    /// The condition's message. It stays the same while the same event repeats, because every change is a write
    /// to the API server. It never has text that the probed side sent.
    pub message: String,
}

impl Outcome {
    /// Returns the outcome of a probe like a Pod's: the text of its success, or its error.
    pub(super) fn of_pod_probe(subject: &str, found: Result<String, ProbeError>) -> Self {
        let (healthy, reason, happened) = match found {
            Ok(happened) => (true, "ProbeSucceeded", happened),
            Err(error @ ProbeError::TimedOut(..)) => (false, "ProbeTimedOut", error.to_string()),
            Err(error) => (false, "ProbeFailed", error.to_string()),
        };
        Self { healthy, reason, message: message(subject, &happened) }
    }
}

/// Joins both and shortens the subject if necessary, because the result matters more.
pub(super) fn message(subject: &str, happened: &str) -> String {
    let room = MESSAGE_LIMIT.saturating_sub(happened.chars().count() + ": ".len());
    if subject.chars().count() <= room {
        return format!("{subject}: {happened}");
    }
    let cut: String = subject.chars().take(room.saturating_sub("...".len())).collect();
    format!("{cut}...: {happened}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pod_probe_succeeds_fails_or_times_out() {
        let of = |found| {
            let outcome = Outcome::of_pod_probe("tcpSocket localhost:1", found);
            (outcome.healthy, outcome.reason, outcome.message)
        };
        let message = |happened: &str| format!("tcpSocket localhost:1: {happened}");
        assert_eq!(of(Ok("connected".into())), (true, "ProbeSucceeded", message("connected")));
        let refused = message("connection refused");
        assert_eq!(of(Err(ProbeError::ConnectionRefused)), (false, "ProbeFailed", refused));
        let slow = ProbeError::TimedOut("no connection", Duration::from_secs(1));
        let message = message("no connection within 1s");
        assert_eq!(of(Err(slow)), (false, "ProbeTimedOut", message));
    }

    #[test]
    fn a_long_subject_is_cut_and_the_problem_is_kept() {
        let message = message(&"ä".repeat(2048), "connection refused");
        assert_eq!(message.chars().count(), MESSAGE_LIMIT);
        assert!(message.ends_with("...: connection refused"), "{message}");
    }
}
