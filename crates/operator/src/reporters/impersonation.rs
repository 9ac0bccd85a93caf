//! Detects whether the API server supports constrained impersonation (KEP-5284).
//!
//! No version or API reports this, and a feature gate can be disabled. So the operator sends a
//! `SelfSubjectReview` as a node that does not exist, which has no effect.
//!
//! - The API server refuses an operator without the permission. The message names the verbs that it checked.
//! - An administrator, who may impersonate any user, gets an answer. If the feature was used, the answer contains
//!   the group of nodes. Otherwise it is inconclusive, because the API server first tries the kind of
//!   impersonation that succeeded last.

use std::time::Duration;

use http::Request;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Client;
use node_readiness_engine::reporter::ConstrainedImpersonation::{self, Missing, Unknown, Works};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::leader::Leadership;

/// The node that does not exist.
const NOBODY: &str = "system:node:node-readiness-feature-detection";

/// The timeout of a request, and the interval of requests until the feature is detected.
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_mins(1);

/// Sends requests until the feature is detected, and publishes each result. Only the leader does this.
pub(crate) async fn detect(
    client: Client,
    leadership: Leadership,
    detected: watch::Sender<ConstrainedImpersonation>,
) {
    leadership.acquired().await;
    loop {
        let found = timeout(TIMEOUT, ask(&client)).await.unwrap_or_else(|_| {
            debug!("the detection of constrained impersonation timed out");
            Unknown
        });
        // A missing answer changes nothing.
        if found != Unknown && detected.send_replace(found) != found {
            match found {
                Works => info!("the API server supports constrained impersonation"),
                Missing | Unknown => warn!(
                    "the API server does not support constrained impersonation: rules that need it get no reporters"
                ),
            }
        }
        if found == Works {
            return;
        }
        sleep(INTERVAL).await;
    }
}

async fn ask(client: &Client) -> ConstrainedImpersonation {
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("Content-Type", "application/json")
        .header("Impersonate-User", NOBODY)
        .body(br#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#.to_vec());
    let Ok(request) = request else { return Unknown };
    match client.request::<SelfSubjectReview>(request).await {
        Ok(review) => answered(&review),
        Err(kube::Error::Api(status)) if status.code == 403 => refused(&status.message),
        Err(error) => {
            debug!(%error, "cannot detect constrained impersonation");
            Unknown
        }
    }
}

/// Interprets the answer to a user who may impersonate a node.
fn answered(review: &SelfSubjectReview) -> ConstrainedImpersonation {
    let user = review.status.as_ref().and_then(|status| status.user_info.as_ref());
    let groups = user.and_then(|user| user.groups.as_ref());
    if groups.is_some_and(|groups| groups.iter().any(|group| group == "system:nodes")) {
        Works
    } else {
        Unknown
    }
}

/// Interprets the refusal for a user who may not. A refusal by the feature names the feature's verbs.
fn refused(message: &str) -> ConstrainedImpersonation {
    if message.contains("impersonate:") || message.contains("impersonate-on:") {
        Works
    } else if message.contains("impersonate") {
        Missing
    } else {
        Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_shows_whether_the_feature_is_enabled() {
        let nodes = r#"nodes.authentication.k8s.io "x" is forbidden: User "o" cannot impersonate:arbitrary-node resource "nodes""#;
        assert_eq!(refused(nodes), Works);
        let users = r#"users "system:node:x" is forbidden: User "o" cannot impersonate resource "users" in API group """#;
        assert_eq!(refused(users), Missing);
        assert_eq!(refused("an admission webhook is out of order"), Unknown);
    }

    #[test]
    fn an_administrators_answer_shows_only_that_the_feature_is_on() {
        let review = |groups: &[&str]| {
            let review = json!({"status": {"userInfo": {"username": NOBODY, "groups": groups}}});
            answered(&serde_json::from_value(review).unwrap())
        };
        assert_eq!(review(&["system:authenticated", "system:nodes"]), Works);
        assert_eq!(review(&["system:authenticated"]), Unknown);
    }
}
