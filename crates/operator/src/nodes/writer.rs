//! The one place that writes nodes.

use json_patch::Patch as JsonPatch;
use kube::api::{Api, Patch, PatchParams};
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
            Err(error) => not_written(&error),
        }
    }
}

/// What a write comes to that did not come about.
fn not_written(error: &NotWritten<kube::Error>) -> Outcome {
    match error {
        NotWritten::NotLeader => Outcome::NotLeader,
        NotWritten::Failed(kube::Error::Api(status)) if status.code == 404 => Outcome::Gone,
        NotWritten::Failed(kube::Error::Api(status)) if refusal::is_stale(status) => Outcome::Stale,
        error => Outcome::Failed(refusal::of_write(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answered(status: Value) -> Outcome {
        let status = serde_json::from_value(status).unwrap();
        not_written(&NotWritten::Failed(kube::Error::Api(Box::new(status))))
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
    fn a_node_that_is_gone_is_no_failure_and_no_answer_is() {
        assert_eq!(
            answered(json!({"code": 404, "reason": "NotFound", "message": ""})),
            Outcome::Gone
        );
        assert!(matches!(not_written(&NotWritten::Timeout), Outcome::Failed(_)));
        assert_eq!(not_written(&NotWritten::NotLeader), Outcome::NotLeader);
    }
}
