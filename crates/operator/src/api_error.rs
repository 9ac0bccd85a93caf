//! Classifies API errors, for all writers.
//!
//! Each controller decides how to react, because only it knows whether its write still makes sense.

use std::error::Error;

use kube::core::Status;
use node_readiness_engine::Failure;

use crate::leader::NotWritten;

/// Returns whether a write was refused only because the object changed after it was read. The watch
/// delivers the new version.
///
/// The API server answers 422 both for a failed test of a JSON Patch and for an invalid object. Only the latter
/// has causes.
pub(crate) fn is_stale(status: &Status) -> bool {
    let has_causes = status.details.as_ref().is_some_and(|details| !details.causes.is_empty());
    status.code == 409 || (status.code == 422 && !has_causes)
}

/// Returns the reason why a write failed.
pub(crate) fn of_write(error: &NotWritten<kube::Error>) -> Failure {
    match error {
        NotWritten::Failed(error) => of_request(error),
        NotWritten::NotLeader => failure("NotLeader", error.to_string()),
        NotWritten::Timeout => failure("Timeout", error.to_string()),
    }
}

/// Returns the reason why a request failed: the API server's answer, or without an answer all causes.
pub(crate) fn of_request(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => answered(status),
        error => failure("RequestFailed", with_causes(error)),
    }
}

/// Returns the API server's answer as a failure. The reason in a proxy's answer may not be one word.
fn answered(status: &Status) -> Failure {
    let Status { reason, message, code, .. } = status;
    let is_word = !reason.is_empty() && reason.chars().all(|c| c.is_ascii_alphabetic());
    let reason = if is_word { reason.clone() } else { format!("Http{code}") };
    let message = if message.is_empty() {
        format!("the API server answered {code} without a message")
    } else {
        message.clone()
    };
    Failure { reason, message }
}

fn failure(reason: &str, message: String) -> Failure {
    Failure { reason: reason.to_owned(), message }
}

/// Returns an error's message with its causes, which a failed connection's own message does not name.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::{Value, json};
    use thiserror::Error;

    use super::*;

    fn status(status: Value) -> Status {
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_failed_test_is_stale_and_an_invalid_object_is_not() {
        let test =
            json!({"code": 422, "reason": "Invalid", "message": "the server rejected our request"});
        assert!(is_stale(&status(test)));
        let invalid = json!({"code": 422, "reason": "Invalid", "message": "bad taint",
            "details": {"causes": [{"field": "spec.taints[0]", "message": "bad"}]}});
        assert!(!is_stale(&status(invalid)));
        assert!(is_stale(&status(
            json!({"code": 409, "reason": "Conflict", "message": "changed"})
        )));
    }

    #[test]
    fn a_failure_quotes_the_api_server() {
        let forbidden = json!({"code": 403, "reason": "Forbidden", "message": "not today"});
        let failure = of_request(&kube::Error::Api(Box::new(status(forbidden))));
        assert_eq!((failure.reason.as_str(), failure.message.as_str()), ("Forbidden", "not today"));
    }

    #[test]
    fn an_answer_without_a_status_has_a_reason_and_a_message() {
        let page = json!({"code": 502, "reason": "Failed to parse error data", "message": ""});
        let failure = answered(&status(page));
        assert_eq!(failure.reason, "Http502");
        assert_eq!(failure.message, "the API server answered 502 without a message");
    }

    #[test]
    fn a_request_without_an_answer_names_each_cause_once() {
        #[derive(Debug, Error)]
        #[error("client error (Connect)")]
        struct Outer(#[source] std::io::Error);

        let refused = std::io::Error::other("tcp connect error: Connection refused");
        let error = kube::Error::Service(Box::new(Outer(refused)));
        let failure = of_write(&NotWritten::Failed(error));
        assert_eq!(failure.reason, "RequestFailed");
        assert_eq!(failure.message.matches("Connection refused").count(), 1, "{}", failure.message);
        assert_eq!(
            failure.message.matches("client error (Connect)").count(),
            1,
            "{}",
            failure.message
        );
        assert_eq!(of_write(&NotWritten::Timeout).reason, "Timeout");
    }
}
