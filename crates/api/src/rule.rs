//! The `NodeReadinessRule` resource and its spec.
//!
//! The schema or CEL refuses everything that it can, with a message that names the remedy. The rule's status
//! reports the rest, such as a conflict with another rule.
#![allow(clippy::duplicated_attributes, reason = "columns share a type")]

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::{
    HoldTimeout, NodeReadinessRuleStatus, PodRequirement, Probe, ReporterResources,
    ResourceRequirement, max_unavailable, selector,
};

/// Holds a taint on the covered nodes until their conditions are met.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "readiness.node.x-k8s.io",
    version = "v1alpha1",
    kind = "NodeReadinessRule",
    doc = "Holds a taint on the nodes it selects until their conditions are met. With probes, reporters observe those conditions on each node.",
    status = "NodeReadinessRuleStatus",
    derive = "PartialEq",
    shortname = "nrr",
    selectable = ".spec.enforcementMode",
    selectable = ".spec.taint.key",
    selectable = ".spec.dryRun",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.enforcementMode",
        description = "When the rule applies: once at bootstrap, or always."
    ),
    printcolumn(
        name = "Taint",
        type_ = "string",
        json_path = ".spec.taint.key",
        description = "Key of the taint that holds nodes."
    ),
    printcolumn(
        name = "Effect",
        type_ = "string",
        json_path = ".spec.taint.effect",
        description = "Effect of that taint."
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.nodes.matched",
        description = "Nodes that the rule covers."
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.nodes.ready",
        description = "Nodes whose conditions are met."
    ),
    printcolumn(
        name = "Held",
        type_ = "integer",
        json_path = ".status.nodes.held",
        description = "Nodes that carry the taint for this rule."
    ),
    printcolumn(
        name = "DryRun",
        type_ = "boolean",
        json_path = ".spec.dryRun",
        description = "Whether the rule only reports what it would do."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "InEffect",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        priority = 1,
        description = "Whether the rule is in effect: its condition Ready."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1,
        description = "Why the rule is or is not in effect: the reason of the condition Ready."
    ),
    printcolumn(
        name = "NodesReady",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="NodesReady")].status"#,
        priority = 1,
        description = "Whether all covered nodes meet the conditions."
    ),
    printcolumn(
        name = "NodesReason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="NodesReady")].reason"#,
        priority = 1,
        description = "Why all nodes do or do not meet them: the reason of the condition NodesReady."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.enforcementMode != 'bootstrap-only' || !has(self.conditions) || !self.conditions.exists(c, has(c.defaultStatus))"
).message("conditions[].defaultStatus cannot be used with enforcementMode bootstrap-only: a node that has not reported yet would count as bootstrapped; remove defaultStatus or use continuous").field_path(".conditions"))]
#[x_kube(validation = Rule::new(
    "self.enforcementMode != 'bootstrap-only' || !has(self.conditionPolicy) || self.conditionPolicy != 'anyOf'"
).message("conditionPolicy anyOf cannot be used with enforcementMode bootstrap-only; use allOf or continuous").field_path(".conditionPolicy"))]
#[x_kube(validation = Rule::new(
    "!has(self.probes) || self.probes.all(p, has(self.conditions) && self.conditions.exists(c, c.type == p.conditionType))"
).message("probes[].conditionType must be one of conditions[].type: add the condition that the probe decides, or remove the probe").field_path(".probes"))]
#[x_kube(validation = Rule::new(
    "!has(self.probes) || !has(self.conditions) || self.conditions.all(c, !has(c.staleAfterSeconds) || !self.probes.exists(p, p.conditionType == c.type) || c.staleAfterSeconds >= 2 * (has(self.reporter) ? self.reporter.heartbeatSeconds : 300))"
).message("conditions[].staleAfterSeconds of a condition that a probe decides must be at least twice reporter.heartbeatSeconds (default 300), because a healthy reporter that sees no change is silent for that long; raise staleAfterSeconds or lower heartbeatSeconds").field_path(".conditions"))]
#[x_kube(validation = Rule::new(
    "!has(self.reporter) || (has(self.probes) && size(self.probes) > 0)"
).message("reporter has no effect without probes; add a probe or remove reporter").field_path(".reporter"))]
#[x_kube(validation = Rule::new(
    "[has(self.conditions) && size(self.conditions) > 0, has(self.pods) && size(self.pods) > 0, has(self.csiDrivers) && size(self.csiDrivers) > 0, has(self.resources) && size(self.resources) > 0, has(self.resourceDrivers) && size(self.resourceDrivers) > 0].exists(given, given)"
).message("a rule must require something: add an entry to conditions, pods, csiDrivers, resources or resourceDrivers").field_path(".conditions"))]
pub struct NodeReadinessRuleSpec {
    /// Selects the nodes that the rule covers, by their labels. It must not be empty. To cover every node, use
    /// an expression that is true for every node, such as `kubernetes.io/os` with `Exists`.
    #[schemars(schema_with = "selector::node_selector")]
    pub node_selector: LabelSelector,

    /// The required node conditions, one entry for each type. A rule needs at least one entry here, or in pods,
    /// csiDrivers, resources or resourceDrivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<ConditionRequirement>,

    /// Pods of which one must be Ready on the node, one entry for each name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pods: Vec<PodRequirement>,

    /// CSI drivers that must be registered on the node: those that its `CSINode` lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub csi_drivers: Vec<String>,

    /// Resources of which the node must have enough in `status.allocatable`, one entry for each name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub resources: Vec<ResourceRequirement>,

    /// DRA drivers that must have published all of their `ResourceSlices` for the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resource_drivers: Vec<String>,

    /// Whether all requirements must be met (`allOf`), or at least one of them (`anyOf`): conditions, pods,
    /// csiDrivers, resources and resourceDrivers alike.
    #[serde(default)]
    pub condition_policy: ConditionPolicy,

    /// Seconds for which the requirements must have been met before a held node is released.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: u32,

    /// What happens to a node that is held for long. By default nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_timeout: Option<HoldTimeout>,

    /// When the rule applies to a node. With `bootstrap-only` it applies until the requirements were met once. With
    /// `continuous` it always applies: the taint comes back when the requirements are no longer met.
    pub enforcement_mode: EnforcementMode,

    /// The taint that keeps pods off a node until its conditions are met.
    pub taint: RuleTaint,

    /// Whether the rule only reports in its status what it would do, and changes no node. Earlier effects of the
    /// rule stay until this is unset or the rule is deleted.
    #[serde(default)]
    pub dry_run: bool,

    /// Whether the rule is suspended. It then changes no node and none of its reporters, until this is unset or
    /// the rule is deleted.
    #[serde(default)]
    pub suspend: bool,

    /// The maximum number of nodes that are held because they regressed: a number, or a percentage of the
    /// covered nodes, rounded up. A node that the rule had released and whose conditions are no longer met gets
    /// the taint only within this limit. So one bad probe cannot take the cluster down. Nodes that were never
    /// ready are always held. There is no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "max_unavailable::schema")]
    pub max_unavailable: Option<IntOrString>,

    /// The effect of a reboot on conditions that were reported before it, and on required pods. With `Hold`
    /// conditions count as Unknown until they are reported again, and pods count when their containers have restarted,
    /// so no pod starts on the node before its agents run, and a bootstrap-only rule applies again. With `Keep` they
    /// still count. By default `Hold` applies to pods and to the conditions of the rule's own probes, and `Keep` to
    /// other conditions, whose writers may never write them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // An Option of an enum would get the enum's description instead of this field's.
    #[schemars(with = "AfterReboot", extend("nullable" = true))]
    pub after_reboot: Option<AfterReboot>,

    /// The probes by which reporters observe conditions on each node, one for each condition type. The operator
    /// runs reporters if there is at least one probe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["conditionType".into()]))]
    pub probes: Vec<Probe>,

    /// How the reporters run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporter: Option<ReporterOptions>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A node condition with its required status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionRequirement {
    /// Type of the node condition.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// The required status.
    pub required_status: ConditionStatus,
    /// The status that counts while the node does not have the condition; Unknown by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // An Option of an enum would get the enum's description instead of this field's.
    #[schemars(with = "ConditionStatus", extend("nullable" = true))]
    pub default_status: Option<ConditionStatus>,
    /// Seconds without a new heartbeat after which the condition counts as Unknown. Only time counts in
    /// which the operator watches without interruption, so neither a node's clock nor an outage of the API
    /// server makes a condition stale. For a condition of this rule's own probes, the minimum is two heartbeats
    /// of its reporter. The default is three heartbeats, or more if a starting reporter needs longer for its
    /// first verdict. Other conditions have no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 604_800))]
    pub stale_after_seconds: Option<u32>,
}

/// Status of a condition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// The status is not known.
    Unknown,
}

impl ConditionStatus {
    /// Returns the status as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a rule's conditions are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ConditionPolicy {
    /// Every condition must have its required status.
    #[default]
    AllOf,
    /// One condition with its required status is enough.
    AnyOf,
}

/// When a rule applies to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EnforcementMode {
    /// Until the node's conditions were met once.
    BootstrapOnly,
    /// Always: the taint comes back when the conditions are no longer met.
    Continuous,
}

/// The effect of a reboot on conditions that were reported before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AfterReboot {
    /// They count as Unknown until they are reported again.
    Hold,
    /// They still count.
    Keep,
}

/// The taint that a rule manages.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, KubeSchema,
)]
#[x_kube(validation = Rule::new(
    "self.key.startsWith('readiness.k8s.io/') || self.key.startsWith('startup-taint.cluster-autoscaler.kubernetes.io/')"
).message("taint key must start with readiness.k8s.io/ or startup-taint.cluster-autoscaler.kubernetes.io/").field_path(".key"))]
#[x_kube(validation = Rule::new(
    "self.key.matches('^[^/]+/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')"
).message("taint key must have one slash, followed by a name of 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit").field_path(".key"))]
#[x_kube(validation = Rule::new(
    "!has(self.value) || self.value.matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')"
).message("taint value must be empty or a label value: letters, digits, '-', '_' or '.', beginning and ending with a letter or digit").field_path(".value"))]
pub struct RuleTaint {
    /// Key. It starts with `readiness.k8s.io/` or `startup-taint.cluster-autoscaler.kubernetes.io/`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub value: String,
    /// The effect on pods that do not tolerate the taint.
    pub effect: TaintEffect,
}

impl fmt::Display for RuleTaint {
    /// The form of kubectl: `key=value:effect`, without the equals sign if there is no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, effect } = self;
        if value.is_empty() {
            write!(f, "{key}:{effect}")
        } else {
            write!(f, "{key}={value}:{effect}")
        }
    }
}

/// Effect of a taint.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum TaintEffect {
    /// New pods are not scheduled.
    NoSchedule,
    /// New pods are scheduled only if there is no other node.
    PreferNoSchedule,
    /// New pods are not scheduled and running ones are evicted.
    NoExecute,
}

impl TaintEffect {
    /// Returns the effect as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the reporters of a rule run. Rules whose options are equal, except for the heartbeat, share their reporters.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReporterOptions {
    /// How the reporters are permitted to write conditions. With `ConstrainedImpersonation` (KEP-5284) each
    /// reporter acts as its own Node; the cluster must have the feature of that name. With `AdmissionPolicy`, for
    /// clusters without the feature, the reporters act as their ServiceAccount, and a
    /// `ValidatingAdmissionPolicy` limits each to conditions of its own Node that rules with this access probe.
    #[serde(default)]
    pub access: ReporterAccess,

    /// Image to run the probes in, instead of the operator's own. It provides the programs of `exec` probes, and
    /// the operator adds the reporter to it. It needs the operator's flag `--allow-reporter-image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = "^[!-~]+$"))]
    pub image: Option<String>,

    /// Seconds after which an unchanged condition is renewed. On a node that several rules cover, the shortest
    /// applies to all of their conditions.
    #[serde(default = "ReporterOptions::default_heartbeat_seconds")]
    #[schemars(range(min = 10, max = 86400))]
    pub heartbeat_seconds: u32,

    /// Whether the pods use the node's network. If not, localhost is the pod's own.
    #[serde(default = "ReporterOptions::default_host_network")]
    pub host_network: bool,

    /// Secrets in the reporters' namespace to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Requests and limits of the container. They replace the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ReporterResources>,

    /// Tolerations of the pods. By default they tolerate every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub tolerations: Option<Vec<Toleration>>,

    /// Priority class of the pods. The default is `system-node-critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// User id of the process. The default is 65532. The value 0 (root) needs the operator's flag
    /// `--allow-root-reporters`. The process has no capabilities in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,

    /// Port on which each reporter serves its metrics over HTTP at /metrics. By default there are no metrics. On
    /// the host network no other process of the node may use this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub metrics_port: Option<u16>,

    /// Labels to add to the pods. The operator's own labels take precedence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations to add to the pods. The operator's own annotations take precedence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
}

/// How reporters are permitted to write conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum ReporterAccess {
    /// Each reporter acts as its own Node and may do nothing else (KEP-5284). The cluster must have the feature
    /// `ConstrainedImpersonation`.
    #[default]
    ConstrainedImpersonation,
    /// The reporters act as their ServiceAccount, which may update the status of every Node. A
    /// `ValidatingAdmissionPolicy` limits each to conditions of its own Node that rules with this access probe. For
    /// clusters without the feature.
    AdmissionPolicy,
}

impl ReporterAccess {
    /// Returns the access as the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConstrainedImpersonation => "ConstrainedImpersonation",
            Self::AdmissionPolicy => "AdmissionPolicy",
        }
    }
}

impl ReporterOptions {
    fn default_heartbeat_seconds() -> u32 {
        300
    }

    fn default_host_network() -> bool {
        true
    }
}

impl Default for ReporterOptions {
    fn default() -> Self {
        Self {
            access: ReporterAccess::default(),
            image: None,
            metrics_port: None,
            heartbeat_seconds: Self::default_heartbeat_seconds(),
            host_network: Self::default_host_network(),
            image_pull_secrets: Vec::new(),
            resources: None,
            tolerations: None,
            priority_class_name: None,
            run_as_user: None,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
        }
    }
}
