//! The migration from version 0.1, which generated reporters for each rule.
//!
//! They are deleted when the reporters of the rule's set run on the same nodes. Until then both write the same
//! conditions, so no condition is without a reporter.

use std::collections::HashSet;

use node_readiness_engine::reporter::ReporterPod;

/// Returns whether a set has a ready reporter wherever the rule with this uid has one of its own.
pub(super) fn has_taken_over<'a>(
    set: &str,
    rule_uid: &str,
    pods: impl Iterator<Item = &'a ReporterPod> + Clone,
) -> bool {
    let ready = pods.filter(|pod| pod.ready);
    let of_set = ready.clone().filter(|pod| pod.set.as_deref() == Some(set));
    let nodes: HashSet<_> = of_set.filter_map(|pod| pod.node.as_deref()).collect();
    ready
        .filter(|pod| pod.rule_uid.as_deref() == Some(rule_uid))
        .filter_map(|pod| pod.node.as_deref())
        .all(|node| nodes.contains(node))
}

#[cfg(test)]
mod tests {
    use node_readiness_api::{REPORTER_SET_LABEL, RULE_UID_LABEL};
    use serde_json::json;

    use super::*;

    fn pod(label: &str, value: &str, node: &str, ready: bool) -> ReporterPod {
        let status = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": format!("{value}-{node}"), "labels": {label: value}},
            "spec": {"nodeName": node},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_set_has_taken_over_when_it_is_ready_wherever_the_rule_is() {
        let own = |node, ready| pod(RULE_UID_LABEL, "u", node, ready);
        let shared = |node, ready| pod(REPORTER_SET_LABEL, "reporter", node, ready);
        for (pods, expected) in [
            (vec![own("a", true), own("b", true), shared("a", true)], false),
            (vec![own("a", true), shared("a", false)], false),
            (vec![own("a", true), own("b", false), shared("a", true)], true),
            (vec![own("a", true), pod(REPORTER_SET_LABEL, "other", "a", true)], false),
            (vec![pod(RULE_UID_LABEL, "another", "a", true)], true),
            (vec![], true),
        ] {
            assert_eq!(has_taken_over("reporter", "u", pods.iter()), expected, "{pods:?}");
        }
    }
}
