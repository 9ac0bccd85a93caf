//! The one place that writes nodes.

use json_patch::Patch as JsonPatch;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use node_readiness_api::CONTROLLER_NAME;
use node_readiness_engine::{Failure, Node};

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
    /// The API server refused, or could not be reached.
    Failed(Failure),
}

pub(super) struct Writer {
    nodes: Api<Node>,
    leadership: Leadership,
}

impl Writer {
    pub(super) fn new(client: kube::Client, leadership: Leadership) -> Self {
        Self { nodes: Api::all(client), leadership }
    }

    /// Writes a node by a conditional patch. Only metadata is asked for in return: a whole node
    /// would be tens of kilobytes that nobody reads.
    pub(super) async fn write(&self, node: &str, patch: JsonPatch) -> Outcome {
        let params =
            PatchParams { field_manager: Some(CONTROLLER_NAME.into()), ..Default::default() };
        let patch = Patch::Json::<()>(patch);
        let write = self.nodes.patch_metadata(node, &params, &patch);
        match self.leadership.write(write).await {
            Ok(_) => Outcome::Written,
            Err(NotWritten::NotLeader) => Outcome::NotLeader,
            Err(NotWritten::Failed(kube::Error::Api(status))) => refused(&status),
            Err(NotWritten::Failed(error)) => failed("RequestFailed", error.to_string()),
            Err(timeout @ NotWritten::Timeout) => failed("Timeout", timeout.to_string()),
        }
    }
}

/// Reads the API server's refusal.
fn refused(status: &Status) -> Outcome {
    match status.code {
        404 => Outcome::Gone,
        _ if refusal::is_stale(status) => Outcome::Stale,
        code => failed(&reason(status, code), status.message.clone()),
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
        refused(&serde_json::from_value(status).unwrap())
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
    fn an_answer_that_is_no_status_has_a_reason_all_the_same() {
        let answer =
            json!({"code": 502, "reason": "Failed to parse error data", "message": "<html>"});
        assert!(matches!(answered(answer), Outcome::Failed(f) if f.reason == "Http502"));
    }
}
