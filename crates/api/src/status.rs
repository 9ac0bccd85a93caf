//! The status of a rule, with a bounded size.
//!
//! Counts are exact. The lists of nodes are complete while a rule covers few nodes. For a rule that covers
//! more nodes, they name only nodes that need attention, and `nodesOmitted` counts the others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ConditionStatus;

/// The status of a rule, as the operator observed it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReadinessRuleStatus {
    /// `metadata.generation` of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`: whether the rule is valid. `Ready`: whether it is in effect, which kstatus, Flux, Helm and
    /// Argo CD wait for. `NodesReady`: whether the conditions of every covered node are met. `ReporterReady`:
    /// whether the reporters of a rule with probes run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Exact counts of the covered nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// The reporters of a rule with probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporter: Option<ReporterStatus>,

    /// Names of nodes to which the rule was applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub applied_nodes: Vec<String>,

    /// Nodes that could not be written, with the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub failed_nodes: Vec<NodeFailure>,

    /// The conditions of covered nodes, as the operator evaluated them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub node_evaluations: Vec<NodeEvaluation>,

    /// The number of covered nodes that the lists do not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes_omitted: Option<u32>,

    /// The effects that a dry-run rule would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run_results: Option<DryRunResults>,
}

/// Exact counts of the covered nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Covered nodes.
    pub matched: u32,
    /// Nodes whose conditions are met or, for a bootstrap-only rule, were met once.
    pub ready: u32,
    /// Nodes that carry the taint for this rule.
    pub held: u32,
    /// Nodes that were in service before the rule was created and wait for the first verdict of its probes. They
    /// wait for at most two minutes.
    #[serde(default)]
    pub pending: u32,
    /// Nodes that could not be written.
    pub failed: u32,
    /// Nodes that regressed and do not carry the taint because of `maxUnavailable`.
    #[serde(default)]
    pub deferred: u32,
    /// Nodes with a stale condition, which counts as Unknown.
    #[serde(default)]
    pub stale: u32,
    /// Nodes that were held for longer than `holdTimeout` and are still not ready, whether or not they still carry the
    /// taint.
    #[serde(default)]
    pub overdue: u32,
}

/// The reporters of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReporterStatus {
    /// Namespace and name of the reporters' DaemonSet.
    pub daemon_set: String,
    /// Nodes that should run a reporter.
    pub desired: i32,
    /// Nodes with a ready reporter.
    pub ready: i32,
}

/// A node that could not be written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFailure {
    /// Name of the node.
    pub node_name: String,
    /// Machine-readable cause.
    #[serde(default)]
    pub reason: String,
    /// The API server's error message.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When this failure began. The operator keeps retrying.
    pub last_evaluation_time: Time,
}

/// The conditions of one node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeEvaluation {
    /// Name of the node.
    pub node_name: String,
    /// One entry for each of the rule's conditions.
    #[schemars(length(max = 32))]
    pub condition_results: Vec<ConditionEvaluation>,
    /// One entry for each of the rule's other requirements. If there are more than 16, only those that are not met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub requirement_results: Vec<RequirementEvaluation>,
    /// Whether the node carries the rule's taint.
    pub taint_status: TaintPresence,
    /// The time of the last change.
    pub last_evaluation_time: Time,
}

/// One condition of one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionEvaluation {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its status on the node; Unknown if the node does not have it.
    pub current_status: ConditionStatus,
    /// The required status.
    pub required_status: ConditionStatus,
    /// The status that counts while the node does not have the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // An Option of an enum would get the enum's description instead of this field's.
    #[schemars(with = "ConditionStatus", extend("nullable" = true))]
    pub default_status: Option<ConditionStatus>,
}

/// One requirement besides conditions, on one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequirementEvaluation {
    /// The field and name of the requirement, such as `pods/calico` or `resources/nvidia.com/gpu`.
    pub requirement: String,
    /// Whether the node meets it.
    pub met: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether a node carries a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaintPresence {
    /// It carries the taint.
    Present,
    /// It does not carry the taint.
    Absent,
}

/// The effects that a dry-run rule would have on the present nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunResults {
    /// Covered nodes.
    pub affected_nodes: u32,
    /// Nodes that would get the taint.
    pub taints_to_add: u32,
    /// Nodes from which the taint would be removed.
    pub taints_to_remove: u32,
    /// Nodes that lack one of the conditions, even if a default satisfies the rule.
    pub risky_operations: u32,
    /// A summary in one sentence.
    pub summary: String,
}
