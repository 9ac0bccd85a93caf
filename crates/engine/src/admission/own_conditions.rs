//! The policy for reporters that act as their ServiceAccount.
//!
//! RBAC permits that ServiceAccount to update the status of every Node. The policy reads from the token which
//! Node the pod runs on. The API server adds that to tokens that are bound to a pod (KEP-4193, since Kubernetes
//! 1.30 by default). A token without it permits nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{BoundPolicy, Terms, expressions};

/// The key under which authentication adds the name of the token's Node.
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// Returns the policy that permits this ServiceAccount to change only conditions of `types` of its pod's own
/// Node.
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
    let mut validations =
        vec![(own_node, "a reporter may change only the Node that its pod runs on".to_owned())];
    validations.extend(expressions::own_conditions_only("a reporter"));
    Terms {
        operations: &["UPDATE"],
        whose: vec![("is-reporter", is_reporter)],
        variables: expressions::variables(types),
        validations,
    }
    .bind(metadata)
}
