//! The slim node: only the fields that a decision can depend on.
//!
//! A Node on the wire has 10 to 50 KB, and less than 1 KB of it is kept here. Most of the rest, such as images,
//! changes often and decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use node_readiness_api::{ConditionStatus, RuleTaint};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use crate::interned::Interned;
use crate::labels::{All, Kept, Labels, Own};

/// A slim node. It is read from the API server as a Node and never written back.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::core::v1::Node")]
#[serde(from = "Read")]
pub struct Node {
    /// Identifies the node and its version, without labels and annotations.
    pub metadata: ObjectMeta,
    labels: Labels,
    /// This project's annotations; `None` if the node has no annotations at all.
    annotations: Option<Labels>,
    taints: Box<[Taint]>,
    /// By type.
    conditions: Box<[NodeCondition]>,
    boot_id: Option<Box<str>>,
    /// `status.allocatable`: quantities by name of the resource.
    allocatable: Labels,
}

/// A node as read. Fields without a name here are skipped.
#[derive(Deserialize)]
struct Read {
    metadata: ReadMetadata,
    #[serde(default)]
    spec: ReadSpec,
    #[serde(default)]
    status: ReadStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadMetadata {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<Kept<All>>,
    annotations: Option<Kept<Own>>,
}

#[derive(Default, Deserialize)]
struct ReadSpec {
    #[serde(default)]
    taints: Box<[Taint]>,
}

#[derive(Default, Deserialize)]
struct ReadStatus {
    #[serde(default)]
    conditions: Box<[NodeCondition]>,
    #[serde(default, rename = "nodeInfo")]
    node_info: ReadNodeInfo,
    #[serde(default)]
    allocatable: Option<Kept<All>>,
}

#[derive(Default, Deserialize)]
struct ReadNodeInfo {
    #[serde(rename = "bootID")]
    boot_id: Option<Box<str>>,
}

impl From<Read> for Node {
    fn from(read: Read) -> Self {
        let Read { metadata, spec, mut status } = read;
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        let ReadMetadata {
            name,
            uid,
            resource_version,
            creation_timestamp,
            deletion_timestamp,
            labels,
            annotations,
        } = metadata;
        Self {
            metadata: ObjectMeta {
                name,
                uid,
                resource_version,
                creation_timestamp,
                deletion_timestamp,
                ..ObjectMeta::default()
            },
            labels: labels.map_or_else(Labels::default, |kept| kept.0),
            annotations: annotations.map(|kept| kept.0),
            taints: spec.taints,
            conditions: status.conditions,
            boot_id: status.node_info.boot_id.filter(|id| !id.is_empty()),
            allocatable: status.allocatable.map_or_else(Labels::default, |kept| kept.0),
        }
    }
}

/// A taint with all of its fields. A patch tests the taints that it was made from, so a dropped field would
/// make it fail.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Taint {
    /// Key.
    pub key: Interned,
    /// Value. Kubernetes omits an empty one.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub value: Interned,
    /// Effect, as text, because other controllers' taints may have unknown effects.
    pub effect: Interned,
    /// Everything else, such as `timeAdded`.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl Taint {
    /// Returns whether this is the rule's taint. Kubernetes identifies taints by key and effect; the value is
    /// an attribute.
    pub fn is(&self, taint: &RuleTaint) -> bool {
        *self.key == *taint.key && *self.effect == *taint.effect.as_str()
    }
}

impl From<&RuleTaint> for Taint {
    fn from(taint: &RuleTaint) -> Self {
        Self {
            key: Interned::new(&taint.key),
            value: Interned::new(&taint.value),
            effect: Interned::new(taint.effect.as_str()),
            rest: BTreeMap::new(),
        }
    }
}

/// Type, status and heartbeat of a node condition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NodeCondition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub type_: Interned,
    /// Its status.
    #[serde(default = "unknown", deserialize_with = "lenient_status")]
    pub status: ConditionStatus,
    #[serde(default, rename = "lastHeartbeatTime", deserialize_with = "seconds")]
    heartbeat: Option<NonZeroU32>,
    #[serde(default, rename = "lastTransitionTime", deserialize_with = "seconds")]
    transition: Option<NonZeroU32>,
}

impl NodeCondition {
    /// When the condition was last written, by its writer's clock, in seconds since 1970. Kubernetes writes no
    /// fractions.
    pub fn heartbeat(&self) -> Option<NonZeroU32> {
        self.heartbeat
    }

    /// When the status last changed, in the same form as the heartbeat.
    pub(crate) fn transition(&self) -> Option<NonZeroU32> {
        self.transition
    }

    /// Returns the heartbeat as a time, for the record. It is exact until 2106.
    pub(crate) fn heartbeat_time(&self) -> Option<Time> {
        Timestamp::from_second(self.heartbeat?.get().into()).ok().map(Time)
    }
}

impl Node {
    /// Returns the name of the node.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the labels of the node.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Returns this project's annotation with that key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)
    }

    /// Returns this project's annotations.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations.iter().flat_map(Labels::iter)
    }

    /// Returns whether the node has any annotations. A patch cannot add the first one without the map.
    pub fn has_annotations(&self) -> bool {
        self.annotations.is_some()
    }

    /// Returns all taints of the node.
    pub fn taints(&self) -> &[Taint] {
        &self.taints
    }

    /// Returns whether the node carries a rule's taint.
    pub fn carries(&self, taint: &RuleTaint) -> bool {
        self.taints.iter().any(|t| t.is(taint))
    }

    /// Returns the status of the condition of that type, if the node has it.
    pub fn condition(&self, type_: &str) -> Option<ConditionStatus> {
        self.find_condition(type_).map(|condition| condition.status)
    }

    /// Returns the condition of that type, if the node has it.
    pub(crate) fn find_condition(&self, type_: &str) -> Option<&NodeCondition> {
        let found = self.conditions.binary_search_by(|known| (*known.type_).cmp(type_)).ok()?;
        Some(&self.conditions[found])
    }

    /// Returns the boot that kubelet reports, which changes with each reboot.
    pub fn boot_id(&self) -> Option<&str> {
        self.boot_id.as_deref()
    }

    /// Returns the quantities that pods can use, by name of the resource.
    pub fn allocatable(&self) -> &Labels {
        &self.allocatable
    }

    /// Returns whether the node joined the cluster before that time.
    pub(crate) fn joined_before(&self, time: Timestamp) -> bool {
        self.metadata.creation_timestamp.as_ref().is_some_and(|joined| joined.0 < time)
    }

    /// Returns whether the node is being deleted and waits for somebody's finalizer.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Returns whether kubelet reports the node as Ready.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready") == Some(ConditionStatus::True)
    }

    /// Returns the conditions of the node, by type.
    pub fn conditions(&self) -> &[NodeCondition] {
        &self.conditions
    }
}

fn unknown() -> ConditionStatus {
    ConditionStatus::Unknown
}

/// Parses the status of a condition. The API server accepts any text, so an invalid status counts as Unknown:
/// one such node must not keep the operator from reading all others.
fn lenient_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConditionStatus, D::Error> {
    Ok(match String::deserialize(deserializer)?.as_str() {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    })
}

/// Parses a heartbeat. The API server accepts any year of four digits, so an invalid heartbeat counts as
/// missing: one such node must not keep the operator from reading all others.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    deserializer.deserialize_any(Seconds)
}

/// Returns a time in the form of a heartbeat; see [`NodeCondition::heartbeat`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as intended")]
pub(crate) fn seconds_of(time: &Time) -> Option<NonZeroU32> {
    NonZeroU32::new(time.0.as_second() as u32)
}

/// Parses a time in place, for [`seconds`].
struct Seconds;

impl Visitor<'_> for Seconds {
    type Value = Option<NonZeroU32>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a time, or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let time: Option<Timestamp> = text.parse().ok();
        Ok(time.and_then(|time| seconds_of(&Time(time))))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_taint_is_written_as_it_was_read() {
        let taints = json!([
            {"key": "a", "effect": "NoSchedule"},
            {"key": "b", "value": "x", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"},
            {"key": "c", "effect": "SomethingNew", "fromTheFuture": {"a": [1, 2]}},
        ]);
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints}}))
                .unwrap();
        assert_eq!(serde_json::to_value(node.taints()).unwrap(), taints);
    }

    #[test]
    fn an_invalid_status_counts_as_unknown() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "status": {"conditions": [
                {"type": "A", "status": "Bogus"}, {"type": "B", "status": ""}, {"type": "C"},
                {"type": "D", "status": "True"},
            ]},
        }))
        .unwrap();
        let found: Vec<_> = node.conditions().iter().map(|c| c.status.as_str()).collect();
        assert_eq!(found, ["Unknown", "Unknown", "Unknown", "True"]);
    }

    #[test]
    fn other_annotations_and_managed_fields_are_not_kept() {
        let node: Node = serde_json::from_value(json!({"metadata": {
            "name": "n",
            "managedFields": [{"manager": "kubelet"}],
            "annotations": {"example.com/large": "x", "readiness.k8s.io/rules": "{}"},
        }}))
        .unwrap();
        assert!(node.metadata.managed_fields.is_none());
        assert_eq!(node.annotations().collect::<Vec<_>>(), [("readiness.k8s.io/rules", "{}")]);
    }

    #[test]
    fn an_invalid_heartbeat_counts_as_missing_and_the_node_is_read() {
        let heartbeat = |time| {
            let condition = json!({"type": "C", "status": "True", "lastHeartbeatTime": time});
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": "n"}, "status": {"conditions": [condition]},
            }))
            .unwrap();
            node.conditions()[0].heartbeat().map(NonZeroU32::get)
        };
        assert_eq!(heartbeat(json!("2026-01-01T00:00:00Z")), Some(1_767_225_600));
        // The API server accepts the first two. None of them may be an error.
        for odd in ["9999-12-31T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", ""] {
            heartbeat(json!(odd));
        }
        assert_eq!(heartbeat(json!("9999-12-31T00:00:00Z")), None);
        assert_eq!(heartbeat(json!(null)), None);
    }

    #[test]
    fn a_node_with_only_foreign_annotations_still_has_the_map() {
        let with = |annotations| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n", "annotations": annotations}}))
                .unwrap()
        };
        assert!(with(json!({"example.com/a": "x"})).has_annotations());
        assert!(!with(json!(null)).has_annotations());
    }
}
