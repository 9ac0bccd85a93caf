//! Reads and writes the record of claims on a node.

use std::collections::BTreeMap;

use node_readiness_api::{
    AUTOSCALER_TAINT_PREFIX, CLAIMS_ANNOTATION, Claim, ClaimState, Claims, TAINT_PREFIX,
};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Node, NodeCondition, bootstrap, node};

/// The record of a node, as read.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// Its claims.
    pub(crate) claims: Claims,
    /// Whether the record contains nothing else.
    pub(crate) whole: bool,
}

/// Returns the claims recorded on a node.
///
/// A claim that does not parse counts as missing, and the others stay valid. A rule that still covers the node
/// makes its claim again. A claim on a taint that no rule may manage is ignored, because a user who can write
/// a node's annotations must not be able to make the operator remove other controllers' taints.
pub(crate) fn recorded(node: &Node) -> Recorded {
    let Some(record) = node.annotation(CLAIMS_ANNOTATION) else {
        return Recorded { claims: Claims::new(), whole: true };
    };
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(record).unwrap_or_default();
    let number = raw.len();
    let claims = raw.into_iter().filter_map(|(rule, claim)| {
        let claim: Claim = serde_json::from_str(claim.get()).ok()?;
        is_manageable(&claim.taint.key).then_some((rule, claim))
    });
    let claims: Claims = claims.collect();
    // A record without claims is never written, so an empty one is damaged.
    let whole = !claims.is_empty() && claims.len() == number;
    Recorded { claims, whole }
}

/// Returns the text of a record.
pub(crate) fn to_record(claims: &impl Serialize) -> String {
    serde_json::to_string(claims).expect("claims are strings and a timestamp")
}

/// Returns whether the rule holds the node.
pub(crate) fn is_held(claim: &Claim) -> bool {
    claim.state == ClaimState::Held
}

/// Returns whether a held node's claim records this heartbeat of a condition as one that does not count: the
/// last one before it stopped, or before the node's last boot.
///
/// Version 0.1.0 did not record heartbeats. With its claims, a condition counts as stale if it was not written
/// after the claim. A node that is held for another cause has a later heartbeat, because somebody wrote the
/// change that the node waited for.
pub(crate) fn records_as_expired(claim: &Claim, condition: &NodeCondition) -> bool {
    let heartbeat = condition.heartbeat();
    if !is_held(claim) {
        false
    } else if claim.cause.is_some() {
        let recorded = claim.expired_heartbeats.get(&*condition.type_);
        recorded.is_some_and(|recorded| recorded.as_ref().and_then(node::seconds_of) == heartbeat)
    } else {
        heartbeat <= node::seconds_of(&claim.since)
    }
}

/// Returns whether a node still carries a claim or a bootstrap annotation of a deleted rule. Nodes that are
/// being deleted do not count.
pub fn has_record_of(node: &Node, rule_name: &str, rule_uid: &str) -> bool {
    if node.is_terminating() {
        return false;
    }
    // Searching the text is faster than parsing it, and most records do not name the rule. A rule's name has no
    // character that JSON escapes.
    let named = node.annotation(CLAIMS_ANNOTATION).is_some_and(|text| text.contains(rule_name));
    (named && recorded(node).claims.contains_key(rule_name))
        || bootstrap::suffixes(node).any(|suffix| suffix == rule_uid || suffix == rule_name)
}

fn is_manageable(key: &str) -> bool {
    key.starts_with(TAINT_PREFIX) || key.starts_with(AUTOSCALER_TAINT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(record: &str) -> Node {
        serde_json::from_value(json!({"metadata": {
            "name": "n",
            "annotations": {"readiness.k8s.io/rules": record},
        }}))
        .unwrap()
    }

    #[test]
    fn a_record_is_written_as_it_was_read() {
        let record = r#"{"cni":{"taint":{"key":"readiness.k8s.io/Net","value":"pending","effect":"NoSchedule"},"state":"held","since":"2026-01-02T03:04:05Z","cause":"Stale","expiredHeartbeats":{"C":"2026-01-02T03:00:00Z","D":null}}}"#;
        assert_eq!(to_record(&recorded(&node(record)).claims), record);
    }

    #[test]
    fn a_claim_that_does_not_parse_does_not_affect_others() {
        let good = r#""cni":{"taint":{"key":"readiness.k8s.io/Net","effect":"NoSchedule"},"state":"held","since":"2026-01-02T03:04:05Z"}"#;
        let found = recorded(&node(&format!(r#"{{"new":{{"state":"later"}},{good}}}"#)));
        assert!(!found.whole);
        assert_eq!(found.claims.keys().collect::<Vec<_>>(), ["cni"]);
    }

    #[test]
    fn a_record_that_does_not_parse_has_no_claims() {
        assert!(recorded(&node("{")).claims.is_empty());
    }

    #[test]
    fn a_claim_on_a_foreign_taint_is_dropped() {
        let record = r#"{"x":{"taint":{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"},"state":"held","since":"2026-01-02T03:04:05Z"}}"#;
        assert!(recorded(&node(record)).claims.is_empty());
    }
}
