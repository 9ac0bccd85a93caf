//! The record that the operator keeps on each Node of what its rules did to it.
//!
//! It lives on the Node, in the annotation [`CLAIMS_ANNOTATION`](crate::CLAIMS_ANNOTATION), and is
//! written in the same patch as the taints. So it survives whatever happens to the operator or to
//! the rule, and anybody who can read the node can read why it is held.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::RuleTaint;

/// Claims by the name of the rule that makes them.
pub type Claims = BTreeMap<String, Claim>;

/// What one rule did to one node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The taint as the rule had it when it made the claim. A later edit of the rule does not
    /// change it, which is how the operator knows what the old rule left behind.
    pub taint: RuleTaint,
    /// Whether the rule wants the taint.
    pub state: ClaimState,
    /// When the rule came to this state with this taint.
    pub since: Time,
    /// Why the rule holds the node. A record of version 0.1.0 has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<HoldCause>,
    /// The conditions of a held node that count as Unknown because their heartbeat stopped, or because
    /// they were reported before the node's last boot, by type, each with the last heartbeat that was
    /// seen. Another heartbeat ends that; the same one does not, so a restart of the operator releases
    /// nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expired_heartbeats: BTreeMap<String, Option<Time>>,
    /// How version 0.1.0 recorded that the rule had released the node before. It is read where there
    /// is no cause, and never set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub regressed: bool,
}

impl Claim {
    /// Whether the rule holds the node although it had released it before. Such nodes count against
    /// the rule's `maxUnavailable`.
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
    /// The rule had released the node, and its conditions are no longer met only because their
    /// heartbeats stopped.
    Stale,
    /// The node was rebooted, and its conditions have not been met since.
    Rebooted,
    /// Kubelet does not report, so that the node may be rebooting. Its conditions are met.
    Unreachable,
}

/// Whether a rule wants its taint on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// The rule keeps the taint on the node.
    Held,
    /// The rule found its conditions met and needs the taint no more.
    Released,
}
