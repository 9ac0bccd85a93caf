//! The operator's record on each Node.
//!
//! It is in the annotation [`CLAIMS_ANNOTATION`](crate::CLAIMS_ANNOTATION), and is written in the same patch as
//! the taints. So it survives the operator and the rule, and every user who can read the node can see why the
//! node is held.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::RuleTaint;

/// Claims by the name of the rule.
pub type Claims = BTreeMap<String, Claim>;

/// What one rule did to one node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The taint of the rule when it made the claim. An edit of the rule does not change it, so the operator
    /// knows which taint to remove.
    pub taint: RuleTaint,
    /// Whether the rule holds or released the node.
    pub state: ClaimState,
    /// The time of the last change of state or taint.
    pub since: Time,
    /// Why the rule holds the node. Records of version 0.1.0 have no cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<HoldCause>,
    /// The conditions of a held node that count as Unknown because their heartbeat stopped, or because they
    /// were reported before the node's last boot: by type, with the last heartbeat. With a new heartbeat
    /// the condition counts again. With the same one it does not, so a restart of the operator releases nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expired_heartbeats: BTreeMap<String, Option<Time>>,
    /// By name of a pod requirement, digests of the containers of pods. On a released node, those of the Ready pods:
    /// after a reboot a pod counts again when its containers are others. On a node that is held because it rebooted,
    /// those that do not count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, BTreeSet<String>>,
    /// Whether the node was held for longer than the rule's `holdTimeout` and has not been ready since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Whether the rule had released the node before, as version 0.1.0 recorded it. The operator reads it if
    /// there is no cause, and never sets it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub regressed: bool,
}

impl Claim {
    /// Returns whether the rule holds the node although it had released it before. Such nodes count against the
    /// rule's `maxUnavailable`.
    pub fn is_regression(&self) -> bool {
        let regressed = match self.cause {
            Some(cause) => matches!(cause, HoldCause::Regressed | HoldCause::Stale),
            None => self.regressed,
        };
        self.state == ClaimState::Held && regressed
    }
}

/// Why a rule holds a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum HoldCause {
    /// The node has not met the rule's conditions yet.
    Bootstrap,
    /// The rule had released the node, and its conditions are no longer met.
    Regressed,
    /// The rule had released the node, and its conditions are no longer met only because heartbeats stopped.
    Stale,
    /// The node rebooted, and its conditions have not been met since.
    Rebooted,
    /// Kubelet does not report, so the node may be rebooting. Its conditions are met.
    Unreachable,
}

impl HoldCause {
    /// Returns the cause as in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "Bootstrap",
            Self::Regressed => "Regressed",
            Self::Stale => "Stale",
            Self::Rebooted => "Rebooted",
            Self::Unreachable => "Unreachable",
        }
    }
}

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// The rule keeps the taint on the node.
    Held,
    /// The rule has removed the taint, because its requirements are met or because the node was overdue.
    Released,
}
