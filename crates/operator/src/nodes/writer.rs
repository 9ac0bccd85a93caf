//! The one place that writes nodes.

use std::time::Duration;

use json_patch::Patch as JsonPatch;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use node_readiness_api::CONTROLLER_NAME;
use node_readiness_engine::{Failure, Node};

use super::lanes::{Answer, Lane, Lanes};
use crate::leadership::{Leadership, NotWritten};
use crate::refusal;

/// What came of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node is as planned.
    Written,
    /// Somebody else changed taints or records in between: the plan is void.
    Stale,
    /// This process does not lead: nothing was sent.
    NotLeader,
    /// The node is no more.
    Gone,
    /// The API server has too much to do, and asks to be left alone for this long.
    Busy(Duration),
    /// The API server refused, or could not be reached.
    Failed(Failure),
}

pub(super) struct Writer {
    nodes: Api<Node>,
    leadership: Leadership,
    lanes: Lanes,
}

impl Writer {
    pub(super) fn new(client: kube::Client, leadership: Leadership) -> Self {
        Self { nodes: Api::all(client), leadership, lanes: Lanes::new() }
    }

    /// Waits until a write may begin. What is written is best decided afterwards, since it may have
    /// to wait.
    pub(super) async fn turn(&self) -> Lane<'_> {
        self.lanes.take().await
    }

    /// Writes a node by a conditional patch. Only metadata is asked for in return: a whole node
    /// would be tens of kilobytes that nobody reads.
    pub(super) async fn write(&self, lane: Lane<'_>, node: &str, patch: JsonPatch) -> Outcome {
        let params =
            PatchParams { field_manager: Some(CONTROLLER_NAME.into()), ..Default::default() };
        let patch = Patch::Json::<()>(patch);
        let write = self.nodes.patch_metadata(node, &params, &patch);
        let (outcome, answer) = match self.leadership.write(write).await {
            Ok(_) => (Outcome::Written, Answer::Taken),
            Err(NotWritten::NotLeader) => (Outcome::NotLeader, Answer::Taken),
            Err(NotWritten::Failed(kube::Error::Api(status))) => refused(&status),
            Err(NotWritten::Failed(error)) => {
                (failed("RequestFailed", error.to_string()), Answer::TooMuch)
            }
            Err(timeout @ NotWritten::Timeout) => {
                (failed("Timeout", timeout.to_string()), Answer::TooMuch)
            }
        };
        lane.answered(answer);
        outcome
    }
}

/// Reads the API server's refusal.
fn refused(status: &Status) -> (Outcome, Answer) {
    match status.code {
        404 => (Outcome::Gone, Answer::Taken),
        429 => {
            let details = status.details.as_ref();
            let wait = details.map_or(0, |details| details.retry_after_seconds);
            (Outcome::Busy(Duration::from_secs(wait.into())), Answer::TooMuch)
        }
        _ if refusal::is_stale(status) => (Outcome::Stale, Answer::Taken),
        code => {
            let answer = if code >= 500 { Answer::TooMuch } else { Answer::Taken };
            (failed(&reason(status, code), status.message.clone()), answer)
        }
    }
}

fn reason(status: &Status, code: u16) -> String {
    if status.reason.chars().all(|c| c.is_ascii_alphabetic()) && !status.reason.is_empty() {
        status.reason.clone()
    } else {
        format!("Http{code}")
    }
}

fn failed(reason: &str, message: String) -> Outcome {
    Outcome::Failed(Failure { reason: reason.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answered(status: Value) -> Outcome {
        refused(&serde_json::from_value(status).unwrap()).0
    }

    #[test]
    fn a_failed_test_is_stale_and_an_invalid_node_is_a_failure() {
        let test =
            json!({"code": 422, "reason": "Invalid", "message": "the server rejected our request"});
        assert_eq!(answered(test), Outcome::Stale);
        let invalid = json!({"code": 422, "reason": "Invalid", "message": "bad taint",
            "details": {"causes": [{"field": "spec.taints[0]", "message": "bad"}]}});
        assert!(matches!(answered(invalid), Outcome::Failed(f) if f.message == "bad taint"));
    }

    #[test]
    fn who_is_told_to_wait_waits_as_long_as_it_is_told() {
        let busy = json!({"code": 429, "reason": "TooManyRequests", "message": "later",
            "details": {"retryAfterSeconds": 3}});
        assert_eq!(answered(busy), Outcome::Busy(Duration::from_secs(3)));
    }

    #[test]
    fn an_answer_that_is_no_status_has_a_reason_all_the_same() {
        let answer =
            json!({"code": 502, "reason": "Failed to parse error data", "message": "<html>"});
        assert!(matches!(answered(answer), Outcome::Failed(f) if f.reason == "Http502"));
    }
}
