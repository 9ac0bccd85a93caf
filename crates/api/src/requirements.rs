//! What a rule can require of a node besides conditions. The operator observes it in objects of the API server, so
//! nothing has to run on the node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::selector;

/// A pod that must be Ready on the node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodRequirement {
    /// Name of the requirement in statuses, events and metrics.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Namespace of the pods.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Selects the pods by their labels. It must not be empty. The requirement is met on a node with at least one
    /// selected pod that is Ready and not terminating.
    #[schemars(schema_with = "selector::pod_selector")]
    pub selector: LabelSelector,
}

/// A resource of which the node must have enough.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirement {
    /// Name of the resource in the node's `status.allocatable`, such as `nvidia.com/gpu`.
    #[schemars(length(min = 1, max = 317), regex(pattern = "^[!-~]+$"))]
    pub name: String,
    /// The smallest allocatable quantity that meets the requirement. It is 1 by default.
    #[serde(default = "ResourceRequirement::one")]
    #[schemars(schema_with = "minimum")]
    pub minimum: IntOrString,
}

impl ResourceRequirement {
    fn one() -> IntOrString {
        IntOrString::Int(1)
    }
}

/// The schema of a quantity that is not negative.
fn minimum(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The smallest allocatable quantity that meets the requirement. It is 1 by default.",
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "default": 1,
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "type(self) == int ? self >= 0 : isQuantity(self) && !quantity(self).isLessThan(quantity('0'))",
            "message": "minimum must be a quantity that is not negative, such as 1, \"500m\" or \"2Gi\"",
        }],
    })
}

/// What happens to a node that is held for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldTimeout {
    /// Seconds after which a held node is overdue.
    #[schemars(range(min = 1, max = 2_592_000))]
    pub seconds: u32,
    /// Whether an overdue node is only reported, or also released.
    #[serde(default)]
    pub action: HoldTimeoutAction,
}

/// What happens to an overdue node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HoldTimeoutAction {
    /// The node stays held, and the operator emits a Warning and counts it in status and metrics.
    #[default]
    Report,
    /// The operator also removes the taint. It holds the node again when it was ready in the meantime and regresses,
    /// or reboots.
    Release,
}
