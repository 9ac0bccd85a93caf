//! The one place that writes nodes.

use json_patch::Patch as JsonPatch;
use kube::api::{Api, Patch, PatchParams};
use node_readiness_api::CONTROLLER_NAME;
use node_readiness_engine::{Failure, Node};

use crate::leadership::{Leadership, NotWritten};
use crate::refusal;

/// How many stale answers in a row are nobody's concern.
const STALE_UNTOLD: u32 = 4;

/// What came of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node is as planned.
    Written,
    /// Somebody else changed taints or records in between: the plan is void. With the API server's
    /// words, in case it happens again and again.
    Stale(String),
    /// This process does not lead: nothing was sent.
    NotLeader,
    /// The node is no more.
    Gone,
    /// The API server refused, or could not be reached.
    Failed(Failure),
}

impl Outcome {
    /// This outcome of a node's write, after some before it that failed or were stale: a plan that is
    /// void now and then is nobody's concern, one that always is.
    pub(super) fn after(self, misses: u32, node: &str) -> Self {
        let Self::Stale(words) = self else { return self };
        if misses < STALE_UNTOLD {
            return Self::Stale(words);
        }
        let message = format!(
            "the API server answered the last {} writes as if the node had changed in between: \
             {words}; see who writes its taints with kubectl get node {node} -o yaml \
             --show-managed-fields, and whether an admission webhook refuses the change",
            misses + 1
        );
        Self::Failed(Failure { reason: "Conflict".to_owned(), message })
    }
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
        NotWritten::Failed(kube::Error::Api(status)) if refusal::is_stale(status) => {
            Outcome::Stale(status.message.clone())
        }
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
        assert_eq!(answered(test), Outcome::Stale("the server rejected our request".to_owned()));
        let invalid = json!({"code": 422, "reason": "Invalid", "message": "bad taint",
            "details": {"causes": [{"field": "spec.taints[0]", "message": "bad"}]}});
        assert!(matches!(answered(invalid), Outcome::Failed(f) if f.message == "bad taint"));
    }

    #[test]
    fn stale_answers_that_do_not_end_are_told_with_the_api_servers_words() {
        let stale = || Outcome::Stale("the server rejected our request".to_owned());
        assert_eq!(stale().after(0, "n"), stale());
        assert_eq!(stale().after(3, "n"), stale());
        let Outcome::Failed(failure) = stale().after(4, "n") else { panic!("it is told") };
        assert_eq!(failure.reason, "Conflict");
        for part in ["the last 5 writes", "the server rejected our request", "kubectl get node n "]
        {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        assert_eq!(Outcome::Written.after(9, "n"), Outcome::Written);
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
