//! The nodes on which a reporter can run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use node_readiness_api::ReporterOptions;

use crate::{Node, Taint};

/// The maximum size of an affinity's keys and values, in bytes. Every pod has a copy.
const MAX_AFFINITY: usize = 8 << 10;

/// The reporter's program is for Linux. kubelet sets this label on every node.
const OS: (&str, &str) = ("kubernetes.io/os", "linux");

/// Labels of virtual nodes, which have no machine for `DaemonSet` pods: those of Virtual Kubelet and of AWS Fargate.
const VIRTUAL: [(&str, &str); 2] =
    [("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate")];

/// Returns the node selector of pods, which applies in addition to [`affinity`].
pub(super) fn node_selector() -> BTreeMap<String, String> {
    let (key, value) = OS;
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// Returns the affinity of pods that run on the non-virtual nodes that one of these selectors matches.
///
/// It only spares other nodes a pod: which rules cover its node, each reporter sees by itself. So pods run on every
/// node if one selector is empty, and if the affinity would be too large.
pub(super) fn affinity<'a>(selectors: impl Iterator<Item = &'a LabelSelector>) -> Affinity {
    let mut terms: Vec<_> = selectors.map(requirements).collect();
    terms.sort_by_cached_key(|term| format!("{term:?}"));
    terms.dedup();
    let size: usize = terms.iter().flatten().map(size).sum();
    if size > MAX_AFFINITY || terms.iter().any(Vec::is_empty) {
        terms = vec![Vec::new()];
    }
    let excluded =
        VIRTUAL.map(|(key, value)| requirement(key, "NotIn", Some(vec![value.to_owned()])));
    let terms = terms.into_iter().map(|mut term| {
        term.extend(excluded.clone());
        NodeSelectorTerm { match_expressions: Some(term), match_fields: None }
    });
    let required = NodeSelector { node_selector_terms: terms.collect() };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

/// Returns a label selector as requirements of a node affinity, whose operators mean the same: `NotIn` matches a
/// node without the label too.
fn requirements(selector: &LabelSelector) -> Vec<NodeSelectorRequirement> {
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| requirement(key, "In", Some(vec![value.clone()])));
    let expressions = selector.match_expressions.iter().flatten();
    let expressions = expressions.map(|expression| {
        requirement(&expression.key, &expression.operator, expression.values.clone())
    });
    labels.chain(expressions).collect()
}

fn requirement(key: &str, operator: &str, values: Option<Vec<String>>) -> NodeSelectorRequirement {
    NodeSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values }
}

fn size(requirement: &NodeSelectorRequirement) -> usize {
    let values = requirement.values.iter().flatten().map(String::len);
    requirement.key.len() + values.sum::<usize>()
}

/// Returns why no reporter with these options can start on a node; `None` if one can.
pub fn obstacle(node: &Node, options: &ReporterOptions) -> Option<String> {
    let (key, value) = OS;
    match node.labels().get(key) {
        Some(os) if os == value => {}
        Some(other) => return Some(format!("{key} is {other}")),
        None => return Some(format!("it has no label {key}")),
    }
    let labels = node.labels();
    let is_set = |(key, value): &&(&str, &str)| labels.get(key) == Some(value);
    if let Some((key, value)) = VIRTUAL.iter().find(is_set) {
        return Some(format!("{key} is {value}"));
    }
    let tolerations = options.tolerations.as_deref()?;
    let not_tolerated = node.taints().iter().find(|taint| {
        keeps_pods_away(taint) && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })?;
    let Taint { key, value: _, effect, rest: _ } = not_tolerated;
    Some(format!("spec.reporter.tolerations do not tolerate its taint {}:{}", &**key, &**effect))
}

/// Returns whether a taint keeps a pod without a toleration off a node. `DaemonSet` pods tolerate the taints of
/// Kubernetes itself.
fn keeps_pods_away(taint: &Taint) -> bool {
    ["NoSchedule", "NoExecute"].contains(&&*taint.effect)
        && !taint.key.starts_with("node.kubernetes.io/")
}

/// Returns whether a toleration matches a taint, by the scheduler's rule (`Toleration.ToleratesTaint` in
/// `k8s.io/api/core/v1`).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let Toleration { key, operator, value, effect, toleration_seconds: _ } = toleration;
    let is_any_or = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == found)
    };
    if !is_any_or(effect, &taint.effect) || !is_any_or(key, &taint.key) {
        return false;
    }
    match operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => value.as_deref().unwrap_or_default() == &*taint.value,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(labels: &Value, taints: &Value, options: &Value) -> Option<String> {
        let node = json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}});
        let options: ReporterOptions = serde_json::from_value(options.clone()).unwrap();
        obstacle(&serde_json::from_value(node).unwrap(), &options)
    }

    #[test]
    fn an_unsupported_node_has_a_reason() {
        for (labels, expected) in [
            (json!({"kubernetes.io/os": "linux"}), None),
            (json!({"kubernetes.io/os": "windows"}), Some("kubernetes.io/os is windows")),
            (json!({}), Some("it has no label kubernetes.io/os")),
            (
                json!({"kubernetes.io/os": "linux", "type": "virtual-kubelet"}),
                Some("type is virtual-kubelet"),
            ),
            (json!({"kubernetes.io/os": "linux", "type": "gpu"}), None),
        ] {
            let found = found(&labels, &json!([]), &json!({}));
            assert_eq!(found.as_deref(), expected, "{labels}");
        }
    }

    #[test]
    fn a_taint_that_is_not_tolerated_is_named() {
        let taint =
            |key: &str, value: &str| json!([{"key": key, "value": value, "effect": "NoSchedule"}]);
        let with = |taints: &Value, tolerations: &Value| {
            let options = json!({"tolerations": tolerations});
            found(&json!({"kubernetes.io/os": "linux"}), taints, &options)
        };
        let words = "spec.reporter.tolerations do not tolerate its taint a:NoSchedule";
        for (tolerations, expected) in [
            (json!([]), Some(words)),
            (json!([{"operator": "Exists"}]), None),
            (json!([{"key": "a", "operator": "Exists"}]), None),
            (json!([{"key": "a", "value": "1"}]), None),
            (json!([{"key": "a", "value": "2"}]), Some(words)),
            (json!([{"key": "b", "operator": "Exists"}]), Some(words)),
            (json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]), Some(words)),
        ] {
            let found = with(&taint("a", "1"), &tolerations);
            assert_eq!(found.as_deref(), expected, "{tolerations}");
        }
        assert_eq!(with(&taint("node.kubernetes.io/unschedulable", ""), &json!([])), None);
    }
}
