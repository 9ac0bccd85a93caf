//! The policy for reporters that act as their ServiceAccount.
//!
//! RBAC lets that ServiceAccount update the status of every Node. The policy reads from the token
//! which Node the pod runs on: the API server puts it into tokens that are bound to a pod (KEP-4193,
//! from Kubernetes 1.30 on by default), and a token without it opens nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{BoundPolicy, Terms, expressions};

/// Where authentication leaves the name of the Node that a token's pod runs on.
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// The policy that lets this ServiceAccount change nothing but conditions of `types` of the Node that
/// its pod runs on.
pub fn own_conditions<'a>(
    metadata: ObjectMeta,
    namespace: &str,
    service_account: &str,
    types: impl IntoIterator<Item = &'a str>,
) -> BoundPolicy {
    let is_reporter = format!(
        "request.userInfo.username == 'system:serviceaccount:{namespace}:{service_account}'"
    );
    let own_node = format!(
        "has(request.userInfo.extra) && '{NODE_CLAIM}' in request.userInfo.extra && \
         request.userInfo.extra['{NODE_CLAIM}'] == [request.name]"
    );
    let mut validations = vec![(
        own_node,
        "a reporter may change no Node but the one that its pod runs on".to_owned(),
    )];
    validations.extend(expressions::own_conditions_only("a reporter"));
    Terms {
        operations: &["UPDATE"],
        whose: vec![("is-reporter", is_reporter)],
        variables: expressions::variables(types),
        validations,
    }
    .bind(metadata)
}
