//! Writes nodes.

use std::time::Duration;

use json_patch::Patch as JsonPatch;
use kube::api::{Api, Patch, PatchParams};
use node_readiness_api::CONTROLLER_NAME;
use node_readiness_engine::{Failure, Node};

use super::concurrency::{ConcurrencyLimit, Feedback, Permit};
use super::field_managers;
use crate::api_error;
use crate::leader::{Leadership, NotWritten};

/// The number of consecutive conflicts or overloads that are not reported.
const UNREPORTED: u32 = 4;

/// The outcome of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node is as planned.
    Written,
    /// Another client changed taints or records concurrently, so the plan is outdated. Contains the API
    /// server's message, for the report of a repeated conflict.
    Stale(String),
    /// This process does not lead, so it sent nothing.
    NotLeader,
    /// The node does not exist any more.
    Gone,
    /// The API server is overloaded and asks for this wait.
    Busy(Duration),
    /// The API server accepted the write and nothing changed: an admission policy or a webhook undid it.
    Undone,
    /// Another client reverted the last write. The operator repeats it after this time.
    Reverted(Failure, Duration),
    /// The API server refused the write, or could not be reached.
    Failed(Failure),
    /// There was no conclusive answer, so the write may have been applied.
    Unknown(Failure),
}

impl Outcome {
    /// Returns the failure to report, if the write may not have been applied.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Unknown(failure) | Self::Reverted(failure, _) => {
                Some(failure)
            }
            Self::Written
            | Self::Undone
            | Self::Stale(_)
            | Self::Busy(_)
            | Self::Gone
            | Self::NotLeader => None,
        }
    }

    /// Reports repeated conflicts and overloads as a failure. A few of them are normal and are not reported.
    pub(super) fn after(self, misses: u32, node: &str) -> Self {
        if misses < UNREPORTED {
            return self;
        }
        let (reason, message) = match self {
            Self::Stale(words) => (
                "Conflict",
                format!(
                    "after {misses} failed writes, the API server still reports that the node changed: {words}; \
                     to find the field manager of its taints, run kubectl get node {node} -o yaml \
                     --show-managed-fields; also check whether an admission webhook refuses the change"
                ),
            ),
            Self::Busy(_) => (
                "TooManyRequests",
                format!(
                    "after {misses} failed writes, the API server is still overloaded; check its Priority and \
                     Fairness configuration and the load of other clients"
                ),
            ),
            other => return other,
        };
        Self::Failed(Failure { reason: reason.to_owned(), message })
    }
}

pub(super) struct Writer {
    nodes: Api<Node>,
    leadership: Leadership,
    limit: ConcurrencyLimit,
}

impl Writer {
    pub(super) fn new(client: kube::Client, leadership: Leadership) -> Self {
        Self { nodes: Api::all(client), leadership, limit: ConcurrencyLimit::new() }
    }

    /// Waits for a permit to write. This may take long, so the caller plans the write afterwards.
    pub(super) async fn acquire(&self) -> Permit<'_> {
        self.limit.acquire().await
    }

    /// Returns the field manager that last changed the operator's fields of a node. This is the only read of a
    /// node besides the watch, once for each conflict.
    pub(super) async fn last_manager(&self, node: &str) -> Option<String> {
        let read = self.leadership.write(self.nodes.get_metadata(node)).await.ok()?;
        field_managers::last_of(&read.metadata).map(str::to_owned)
    }

    /// Writes a node with a conditional patch. It requests only metadata in the answer, because it needs no
    /// more.
    pub(super) async fn write(&self, permit: Permit<'_>, node: &Node, patch: JsonPatch) -> Outcome {
        let params =
            PatchParams { field_manager: Some(CONTROLLER_NAME.into()), ..Default::default() };
        let patch = Patch::Json::<()>(patch);
        let write = self.nodes.patch_metadata(node.name(), &params, &patch);
        let written = self.leadership.write(write).await;
        permit.release(written.as_ref().map_or_else(overload, |_| Feedback::Success));
        let before = &node.metadata.resource_version;
        match written {
            // The patch tested the version that the node was planned from, so an applied patch changes the
            // version.
            Ok(answer) if answer.metadata.resource_version == *before => Outcome::Undone,
            Ok(_) => Outcome::Written,
            Err(error) => not_written(&error),
        }
    }
}

/// Returns the outcome of a write that did not succeed.
fn not_written(error: &NotWritten<kube::Error>) -> Outcome {
    match error {
        NotWritten::NotLeader => Outcome::NotLeader,
        NotWritten::Failed(kube::Error::Api(status)) if status.code == 404 => Outcome::Gone,
        NotWritten::Failed(kube::Error::Api(status)) if status.code == 429 => {
            let details = status.details.as_ref();
            let wait = details.map_or(0, |details| details.retry_after_seconds);
            Outcome::Busy(Duration::from_secs(wait.into()))
        }
        NotWritten::Failed(kube::Error::Api(status)) if api_error::is_stale(status) => {
            Outcome::Stale(status.message.clone())
        }
        NotWritten::Failed(kube::Error::Api(status)) if status.code < 500 => {
            Outcome::Failed(api_error::of_write(error))
        }
        NotWritten::Failed(_) | NotWritten::Timeout => Outcome::Unknown(api_error::of_write(error)),
    }
}

/// Returns whether a failed write indicates an overloaded API server.
fn overload(error: &NotWritten<kube::Error>) -> Feedback {
    match error {
        NotWritten::NotLeader => Feedback::Success,
        NotWritten::Failed(kube::Error::Api(status)) if status.code != 429 && status.code < 500 => {
            Feedback::Success
        }
        NotWritten::Failed(_) | NotWritten::Timeout => Feedback::Overload,
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
    fn repeated_conflicts_and_overloads_become_failures() {
        let stale = || Outcome::Stale("the server rejected our request".to_owned());
        assert_eq!(stale().after(0, "n"), stale());
        assert_eq!(stale().after(3, "n"), stale());
        let Outcome::Failed(failure) = stale().after(4, "n") else { panic!("it is a failure") };
        assert_eq!(failure.reason, "Conflict");
        for part in
            ["after 4 failed writes", "the server rejected our request", "kubectl get node n "]
        {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        let busy = || Outcome::Busy(Duration::from_secs(1));
        assert_eq!(busy().after(3, "n"), busy());
        let Outcome::Failed(failure) = busy().after(4, "n") else { panic!("it is a failure") };
        assert_eq!(failure.reason, "TooManyRequests");
        assert_eq!(Outcome::Written.after(9, "n"), Outcome::Written);
    }

    #[test]
    fn a_deleted_node_is_no_failure_and_a_timeout_has_an_unknown_outcome() {
        assert_eq!(
            answered(json!({"code": 404, "reason": "NotFound", "message": ""})),
            Outcome::Gone
        );
        assert!(matches!(not_written(&NotWritten::Timeout), Outcome::Unknown(_)));
        assert_eq!(not_written(&NotWritten::NotLeader), Outcome::NotLeader);
    }

    #[test]
    fn retry_after_of_the_api_server_is_respected() {
        let busy = json!({"code": 429, "reason": "TooManyRequests", "message": "later",
            "details": {"retryAfterSeconds": 3}});
        assert_eq!(answered(busy), Outcome::Busy(Duration::from_secs(3)));
    }

    #[test]
    fn only_429_server_errors_and_timeouts_indicate_overload() {
        let of = |code: u16| {
            let status = serde_json::from_value(json!({"code": code, "message": ""})).unwrap();
            overload(&NotWritten::Failed(kube::Error::Api(Box::new(status))))
        };
        for taken in [404, 409, 422] {
            assert!(matches!(of(taken), Feedback::Success), "{taken}");
        }
        for too_much in [429, 500, 503] {
            assert!(matches!(of(too_much), Feedback::Overload), "{too_much}");
        }
        assert!(matches!(overload(&NotWritten::Timeout), Feedback::Overload));
    }
}
