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
pub struct Claim {
    /// The taint as the rule had it when it made the claim. A later edit of the rule does not
    /// change it, which is how the operator knows what the old rule left behind.
    pub taint: RuleTaint,
    /// Whether the rule wants the taint.
    pub state: ClaimState,
    /// When the rule came to this state with this taint.
    pub since: Time,
    /// Whether the node is held because it regressed: the rule had released it before. Such nodes
    /// count against the rule's `maxUnavailable`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub regressed: bool,
}

/// Whether a rule wants its taint on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// The rule keeps the taint on the node.
    Held,
    /// The rule found its conditions met and needs the taint no more.
    Released,
}
