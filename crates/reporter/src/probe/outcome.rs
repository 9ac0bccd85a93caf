//! What one probe found, in words.
//!
//! The words are a pure function of what happened, so that the same thing always reads the same.

use super::error::ProbeError;

/// Longest message of a condition, in characters.
const MESSAGE_LIMIT: usize = 256;

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it counts as a success.
    pub healthy: bool,
    /// The condition's reason: `CamelCase`, one of few.
    pub reason: &'static str,
    /// The condition's message. It stays the same while the same thing happens, since every change
    /// of it is a write to the API server, and it never holds anything that the probed side sent.
    pub message: String,
}

impl Outcome {
    /// What came of a probe that is like a Pod's: the words for its success, or what was in its
    /// way.
    pub(super) fn of_pod_probe(subject: &str, found: Result<String, ProbeError>) -> Self {
        let (healthy, reason, happened) = match found {
            Ok(happened) => (true, "ProbeSucceeded", happened),
            Err(error @ ProbeError::TimedOut(..)) => (false, "ProbeTimedOut", error.to_string()),
            Err(error) => (false, "ProbeFailed", error.to_string()),
        };
        Self { healthy, reason, message: message(subject, &happened) }
    }
}

/// Joins the two, shortening the subject where both do not fit: what happened is the news.
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
