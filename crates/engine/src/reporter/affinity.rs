//! Where the reporters of a rule run: a rule's selector as a node affinity. A plain node selector
//! could not carry expressions.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The nodes that a rule covers.
pub(super) fn on_covered_nodes(selector: &LabelSelector) -> Affinity {
    let labels =
        selector.match_labels.iter().flatten().map(|(key, value)| NodeSelectorRequirement {
            key: key.clone(),
            operator: "In".to_owned(),
            values: Some(vec![value.clone()]),
        });
    let expressions =
        selector.match_expressions.iter().flatten().map(|expression| NodeSelectorRequirement {
            key: expression.key.clone(),
            operator: expression.operator.clone(),
            values: expression.values.clone(),
        });
    let term = NodeSelectorTerm {
        match_expressions: Some(labels.chain(expressions).collect()),
        match_fields: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}
