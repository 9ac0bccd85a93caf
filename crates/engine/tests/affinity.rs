//! Sets of nodes and their affinity, against labels that are made up.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorRequirement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use node_readiness_engine::reporter::{MAX_TERMS, NodeSet};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

type Labels = BTreeMap<String, String>;

/// Whether a pod with this affinity may run on a node, as the scheduler and the DaemonSet controller
/// read it (`component-helpers/scheduling/corev1/nodeaffinity`).
fn admits(affinity: Option<&Affinity>, labels: &Labels) -> bool {
    let Some(affinity) = affinity else { return true };
    let affinity = affinity.node_affinity.as_ref().unwrap();
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref().unwrap();
    required.node_selector_terms.iter().any(|term| {
        let requirements = term.match_expressions.as_deref().unwrap_or_default();
        !requirements.is_empty() && requirements.iter().all(|r| is_met(r, labels))
    })
}

fn is_met(requirement: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let label = labels.get(&requirement.key);
    let listed = || label.is_some_and(|l| requirement.values.as_ref().unwrap().contains(l));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => label.is_some() && requirement.values.is_none(),
        "DoesNotExist" => label.is_none() && requirement.values.is_none(),
        other => panic!("{other} is none of the operators"),
    }
}

/// Few keys and values, so that selectors meet.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "1", "2", "3"]).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(key(), value(), 0..4)
}

fn expression() -> impl Strategy<Value = Value> {
    let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
    (key(), operator, vec(value(), 1..3)).prop_map(|(key, operator, values)| match operator {
        "In" | "NotIn" => json!({"key": key, "operator": operator, "values": values}),
        _ => json!({"key": key, "operator": operator}),
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    (labels(), vec(expression(), 0..4)).prop_map(|(labels, expressions)| {
        let selector = json!({"matchLabels": labels, "matchExpressions": expressions});
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        Selector::try_from(selector).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn an_affinity_admits_exactly_what_is_selected_and_not_excluded(
        selected in selector(),
        excluded in vec(selector(), 0..4),
        nodes in vec(labels(), 1..20),
    ) {
        let mut set = Some(NodeSet::of(selected.clone()));
        for selector in &excluded {
            set = set.and_then(|set| set.without(&NodeSet::of(selector.clone())));
        }
        // What is too much for an affinity is another matter.
        let Some(set) = set else { return Ok(()) };
        let affinity = set.affinity();
        let wanted = |labels: &Labels| {
            selected.matches(labels) && !excluded.iter().any(|selector| selector.matches(labels))
        };
        for labels in &nodes {
            let admitted = !set.is_empty() && admits(affinity.as_ref(), labels);
            prop_assert_eq!(admitted, wanted(labels), "{:?} {:?}", labels, affinity);
        }
    }

    #[test]
    fn two_sets_together_admit_what_either_does(
        one in selector(), other in selector(), nodes in vec(labels(), 1..20),
    ) {
        let (a, b) = (NodeSet::of(one.clone()), NodeSet::of(other.clone()));
        let meets = a.meets(&b);
        let both = a.and(b).unwrap();
        for labels in &nodes {
            let (by_one, by_other) = (one.matches(labels), other.matches(labels));
            prop_assert!(meets || !(by_one && by_other));
            let admitted = !both.is_empty() && admits(both.affinity().as_ref(), labels);
            prop_assert_eq!(admitted, by_one || by_other);
        }
    }

    #[test]
    fn a_set_without_itself_is_empty(selector in selector()) {
        let set = NodeSet::of(selector);
        prop_assert!(set.without(&set).unwrap().is_empty());
    }
}

/// Without bounds to what is worked out, this would take minutes.
#[test]
fn the_largest_selectors_are_worked_out() {
    let unlike = |letter: &str| {
        let expressions: Vec<_> = (0..MAX_TERMS)
            .map(|n| {
                let values: Vec<_> = (0..300).map(|value| format!("{letter}-{value}")).collect();
                json!({"key": format!("{letter}{n}"), "operator": "NotIn", "values": values})
            })
            .collect();
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchExpressions": expressions})).unwrap();
        NodeSet::of(Selector::try_from(selector).unwrap())
    };
    let left = unlike("a").without(&unlike("b")).unwrap();
    assert!(!left.is_empty());
    assert!(left.without(&left).unwrap().is_empty());
    assert!(left.without(&unlike("c")).is_none());
    assert!(left.clone().and(left.clone()).unwrap() == left);
}

#[test]
fn a_set_of_too_many_terms_is_refused() {
    let exists = |letter: &str, number: usize| {
        let expressions: Vec<_> = (0..number)
            .map(|n| json!({"key": format!("{letter}{n}"), "operator": "Exists"}))
            .collect();
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchExpressions": expressions})).unwrap();
        NodeSet::of(Selector::try_from(selector).unwrap())
    };
    let all = exists("x", 1);
    let left = all.without(&exists("a", 8)).unwrap();
    assert_eq!(MAX_TERMS, 8 * 8);
    assert!(left.without(&exists("b", 8)).is_some());
    assert!(left.without(&exists("b", 9)).is_none());
}
