//! The status of a rule, bounded however large the cluster is.
//!
//! Counts are exact. The lists of nodes are complete while a rule covers few nodes; beyond that
//! they name only those that need a person, and `nodesOmitted` says how many are not named.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ConditionStatus;

/// What the operator observed of a rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReadinessRuleStatus {
    /// `metadata.generation` of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`: whether the rule is valid. `Ready`: whether it is in effect, as kstatus, Flux, Helm
    /// and Argo CD ask. `NodesReady`: whether every covered node's conditions are met.
    /// `ReporterReady`: whether the reporters of a rule with probes run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Exact counts of the nodes that the rule covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// The reporters of a rule with probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporter: Option<ReporterStatus>,

    /// Names of nodes that the rule was applied to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub applied_nodes: Vec<String>,

    /// Nodes that could not be written, with the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub failed_nodes: Vec<NodeFailure>,

    /// How the conditions of single nodes were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub node_evaluations: Vec<NodeEvaluation>,

    /// How many covered nodes the lists do not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes_omitted: Option<u32>,

    /// What a dry-run rule would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run_results: Option<DryRunResults>,
}

/// Exact counts over the nodes that a rule covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that the rule covers.
    pub matched: u32,
    /// Those whose conditions are met, or, for a bootstrap-only rule, were met once.
    pub ready: u32,
    /// Those that carry the taint for this rule.
    pub held: u32,
    /// Those that were in service before the rule was created and wait for the first verdict of its
    /// probes, for two minutes at most.
    #[serde(default)]
    pub pending: u32,
    /// Those that could not be written.
    pub failed: u32,
    /// Those that regressed and do not carry the taint because `maxUnavailable` nodes already do.
    #[serde(default)]
    pub deferred: u32,
    /// Those with a condition that counts as Unknown because its heartbeat stopped.
    #[serde(default)]
    pub stale: u32,
}

/// How many reporters a rule has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReporterStatus {
    /// Namespace and name of the reporters' DaemonSet.
    pub daemon_set: String,
    /// Nodes that should run a reporter.
    pub desired: i32,
    /// Nodes that run one that is ready.
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
    /// The cause in the API server's words.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Since when it fails in this way. It is tried again all the time.
    pub last_evaluation_time: Time,
}

/// How the conditions of one node were found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeEvaluation {
    /// Name of the node.
    pub node_name: String,
    /// One entry for each of the rule's conditions.
    #[schemars(length(max = 32))]
    pub condition_results: Vec<ConditionEvaluation>,
    /// Whether the node carries the rule's taint.
    pub taint_status: TaintPresence,
    /// When this came to be so.
    pub last_evaluation_time: Time,
}

/// How one condition of one node was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionEvaluation {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its status on the node; Unknown where the node does not have it.
    pub current_status: ConditionStatus,
    /// The status that the rule requires.
    pub required_status: ConditionStatus,
    /// The status that it counts as while the node does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // An Option of an enum would get the enum's description instead of this field's.
    #[schemars(with = "ConditionStatus", extend("nullable" = true))]
    pub default_status: Option<ConditionStatus>,
}

/// Whether a node carries a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaintPresence {
    /// It does.
    Present,
    /// It does not.
    Absent,
}

/// What a dry-run rule would do to the nodes as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunResults {
    /// Nodes that the rule covers.
    pub affected_nodes: u32,
    /// Nodes that would get the taint.
    pub taints_to_add: u32,
    /// Nodes that would lose it.
    pub taints_to_remove: u32,
    /// Nodes that lack one of the conditions, even where a default satisfies the rule.
    pub risky_operations: u32,
    /// The same in a sentence.
    pub summary: String,
}
