//! Which rules share their reporters, and which rule decides a condition on a node.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::collections::BTreeMap;

use common::reporters::{self, generated, term};
use common::{TestNode, TestRule};
use k8s_openapi::api::core::v1::Volume;
use kube::core::{Selector, SelectorExt as _};
use node_readiness_api::{NodeReadinessRule, ReporterConfig, RuleProbes};
use node_readiness_engine::reporter::{Member, Overlap, ReporterSet, ReporterSets, overlaps};
use node_readiness_engine::{Node, RuleSet};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A rule that selects nodes with this label and probes these conditions. Its age follows from its name.
fn rule(name: &str, label: &str, conditions: &[&str]) -> TestRule {
    let probe = |type_: &&str| json!({"conditionType": type_, "tcpSocket": {"port": 1}});
    let selector = json!({"matchExpressions": [{"key": label, "operator": "Exists"}]});
    TestRule::new(name)
        .spec("nodeSelector", selector)
        .spec("probes", conditions.iter().map(probe).collect())
}

fn with_image(rule: TestRule, image: &str) -> TestRule {
    rule.spec("reporter", json!({"image": image}))
}

fn sets(rules: &[TestRule]) -> ReporterSets {
    let objects: Vec<_> = rules.iter().map(TestRule::object).collect();
    let members: Vec<_> = objects.iter().map(Member::Current).collect();
    ReporterSets::of(&members, &BTreeMap::new()).unwrap()
}

fn names(config: &ReporterConfig) -> Vec<&str> {
    config.rules.iter().map(|rule| rule.name.as_str()).collect()
}

/// The terms of the node affinity of a set's pods.
fn terms(set: &ReporterSet) -> Value {
    reporters::terms(&generated(set).daemon_set.spec.template.spec.unwrap())
}

#[test]
fn rules_with_equal_pod_settings_share_a_set_and_own_its_objects() {
    let slow = rule("c", "os", &["C"]).spec("reporter", json!({"heartbeatSeconds": 600}));
    let ReporterSets { sets, .. } = sets(&[
        rule("b", "os", &["B"]),
        with_image(rule("d", "os", &["D"]), "x"),
        rule("a", "os", &["A"]),
        slow,
    ]);
    let [shared, other] = &sets[..] else { panic!("{sets:?}") };
    assert_eq!((shared.name.as_str(), names(&shared.config)), ("reporter", vec!["a", "b", "c"]));
    assert!(other.name.starts_with("reporter-") && names(&other.config) == ["d"], "{other:?}");
    let objects = generated(shared);
    let owners = objects.daemon_set.metadata.owner_references.unwrap();
    let owners: Vec<_> = owners.iter().map(|owner| (&*owner.uid, owner.controller)).collect();
    assert_eq!(owners, [("uid-a", None), ("uid-b", None), ("uid-c", None)]);
}

#[test]
fn a_rule_is_in_the_configuration_of_another_set_only_for_conditions_that_it_decides_there() {
    let old = with_image(rule("a", "os", &["A", "X"]), "x");
    let young = with_image(rule("c", "os", &["B"]), "x");
    let ReporterSets { sets, .. } = sets(&[old, rule("b", "os", &["A", "B"]), young]);
    let [shared, other] = &sets[..] else { panic!("{sets:?}") };
    assert_eq!(names(&shared.config), ["a", "b"]);
    let foreign = &shared.config.rules[0];
    assert_eq!(foreign.written_by_other_set, ["A"]);
    assert!(foreign.probes.is_empty() && foreign.required.is_empty());
    // The set's objects belong to its own rules only.
    assert_eq!(shared.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(names(&other.config), ["a", "b", "c"]);
    assert_eq!(other.config.rules[1].written_by_other_set, ["B"]);
}

#[test]
fn reporters_keep_what_they_have_of_a_suspended_rule() {
    let before: BTreeMap<_, _> = [
        ("reporter".to_owned(), sets(&[rule("a", "os", &["A"])]).sets.remove(0).config),
        ("reporter-x".to_owned(), sets(&[rule("b", "os", &["B"])]).sets.remove(0).config),
    ]
    .into();
    let edited = [rule("a", "pool", &["Z"]), rule("b", "os", &["B"]), rule("n", "os", &["N"])];
    let kept = edited.map(|rule| rule.object().metadata);
    let current = rule("c", "os", &["C"]).object();
    let mut members: Vec<_> = kept.iter().map(Member::Kept).collect();
    members.push(Member::Current(&current));
    let ReporterSets { sets, kept, refused } = ReporterSets::of(&members, &before).unwrap();
    let [shared] = &sets[..] else { panic!("{sets:?}") };
    assert_eq!(shared.config.rules[0], before["reporter"].rules[0]);
    assert_eq!(names(&shared.config), ["a", "c"], "n had no reporters");
    // Nobody knows the pod settings of this set any more.
    assert_eq!(kept, [("reporter-x".to_owned(), before["reporter-x"].clone())].into());
    assert!(refused.is_empty());
}

#[test]
fn pods_of_a_waiting_rule_are_prepared_without_its_probes() {
    let socket = json!([{"conditionType": "W", "unixSocket": {"path": "/run/cni/a.sock"}}]);
    let waiting = rule("a", "pool", &[]).spec("probes", socket).object();
    let current = rule("b", "os", &["B"]).object();
    let members = [Member::Waiting(&waiting), Member::Current(&current)];
    let first = ReporterSets::of(&members, &BTreeMap::new()).unwrap().sets.remove(0);
    assert_eq!(names(&first.config), ["b"]);
    let term_of = |key: &str| term(&[json!({"key": key, "operator": "Exists"})]);
    assert_eq!(terms(&first), json!([term_of("os"), term_of("pool")]));
    let objects = generated(&first);
    for metadata in [&objects.config_map.metadata, &objects.daemon_set.metadata] {
        let owners = metadata.owner_references.iter().flatten();
        assert_eq!(owners.map(|owner| &*owner.uid).collect::<Vec<_>>(), ["uid-a", "uid-b"]);
    }
    let volumes = objects.daemon_set.spec.template.spec.unwrap().volumes.unwrap();
    let of_host = |volume: &Volume| volume.host_path.as_ref().map(|host| host.path.clone());
    assert_eq!(volumes.iter().filter_map(of_host).collect::<Vec<_>>(), ["/run/cni"]);

    // A rule whose probes run already keeps them until the new ones may run.
    let before = sets(&[rule("a", "pool", &["V"])]).sets.remove(0).config;
    let before = BTreeMap::from([("reporter".to_owned(), before)]);
    let edited = ReporterSets::of(&members, &before).unwrap().sets.remove(0);
    assert_eq!(edited.config.rules[0], before["reporter"].rules[0]);
    assert_eq!(edited.rules, edited.config.rules);
}

#[test]
fn the_youngest_rules_are_refused_when_a_configuration_would_be_too_large() {
    let large = |name: &str| {
        let header = json!({"name": "A", "value": "x".repeat(500 << 10)});
        let probe = json!({"conditionType": name, "httpGet": {"port": 1, "httpHeaders": [header]}});
        rule(name, "os", &[]).spec("probes", json!([probe]))
    };
    let ReporterSets { sets, refused, .. } =
        sets(&[large("b"), large("a"), rule("c", "os", &["C"])]);
    assert_eq!(names(&sets[0].config), ["a", "c"]);
    let refusal = &refused["uid-b"];
    assert_eq!(refusal.reason, "TooLarge");
    assert!(refusal.message.contains("reporter set reporter"), "{}", refusal.message);
}

#[test]
fn pods_run_where_one_of_the_rules_can_apply() {
    let exists = |key: &str| json!({"key": key, "operator": "Exists"});
    let set = |rules: &[TestRule]| sets(rules).sets.remove(0);
    let both = set(&[rule("a", "os", &["A"]), rule("b", "pool", &["B"]), rule("c", "os", &["C"])]);
    assert_eq!(terms(&both), json!([term(&[exists("os")]), term(&[exists("pool")])]));
    let labels =
        rule("a", "os", &["A"]).spec("nodeSelector", json!({"matchLabels": {"pool": "gpu"}}));
    let gpu = json!({"key": "pool", "operator": "In", "values": ["gpu"]});
    assert_eq!(terms(&set(&[labels])), json!([term(&[gpu])]));
    let everywhere = rule("b", "os", &["B"]).spec("nodeSelector", json!({}));
    assert_eq!(terms(&set(&[rule("a", "os", &["A"]), everywhere])), json!([term(&[])]));
    // Each of thousands of pods would have a copy.
    let values: Vec<_> = (0..1000).map(|n| format!("value-{n}")).collect();
    let many = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]});
    let many = rule("a", "os", &["A"]).spec("nodeSelector", many);
    assert_eq!(terms(&set(&[many])), json!([term(&[])]));
}

#[test]
fn overlaps_are_exact() {
    let (young, old) = (rule("c", "os", &["A", "B", "C"]), rule("a", "pool", &["A"]));
    let older = [old, rule("b", "os", &["A", "B"]), rule("d", "os", &["C"])];
    let rules = RuleSet::new(older.iter().chain([&young]).map(TestRule::compile), []);
    let nodes: Vec<Node> = [
        TestNode::new("n3").label("os", "x").label("pool", "x"),
        TestNode::new("n2").label("os", "x"),
        TestNode::new("n1").label("pool", "x"),
    ]
    .iter()
    .map(TestNode::view)
    .collect();
    let nodes: Vec<&Node> = nodes.iter().collect();
    let overlap = |older: &[&str], nodes, first: &str| Overlap {
        older: older.iter().map(|&name| name.to_owned()).collect(),
        nodes,
        first: first.to_owned(),
    };
    let found = overlaps(&young.compile(), rules.iter(), &nodes);
    let expected = [
        ("A".to_owned(), overlap(&["a", "b"], 2, "n2")),
        ("B".to_owned(), overlap(&["b"], 2, "n2")),
    ];
    assert_eq!(found, expected.into());
    let of_oldest = overlaps(&older[0].compile(), rules.iter(), &nodes);
    assert!(of_oldest.is_empty());
}

/// The conditions that a reporter with this configuration writes on a node with these labels, with the rules.
fn written(config: &ReporterConfig, labels: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let covers = |rule: &&RuleProbes| {
        Selector::try_from(rule.node_selector.clone()).unwrap().matches(labels)
    };
    let mut decided = BTreeMap::new();
    for rule in config.rules.iter().filter(covers) {
        for probe in &rule.probes {
            decided.entry(&probe.condition_type).or_insert(Some(&rule.name));
        }
        for type_ in &rule.written_by_other_set {
            decided.entry(type_).or_insert(None);
        }
    }
    let written =
        decided.into_iter().filter_map(|(type_, rule)| Some((type_.clone(), rule?.clone())));
    written.collect()
}

proptest! {
    /// However rules are spread over sets, each condition is written by one reporter, for the oldest rule.
    #[test]
    fn one_reporter_decides_a_condition_and_for_the_oldest_rule(
        rules in prop::collection::vec((0..4_usize, 0..3_usize, prop::collection::btree_set("[A-C]", 1..3)), 1..6),
        node in prop::collection::btree_set(0..3_usize, 0..3),
    ) {
        let label = |number: usize| format!("l{number}");
        let rules: Vec<_> = rules.iter().enumerate().map(|(index, (image, selects, conditions))| {
            let conditions: Vec<_> = conditions.iter().map(String::as_str).collect();
            let rule = rule(&format!("r{index}"), &label(*selects), &conditions);
            if *image == 0 { rule } else { with_image(rule, &format!("i{image}")) }
        }).collect();
        let labels: BTreeMap<_, _> = node.iter().map(|number| (label(*number), String::new())).collect();
        let mut found: Vec<_> =
            sets(&rules).sets.iter().flat_map(|set| written(&set.config, &labels)).collect();
        found.sort();
        let objects: Vec<NodeReadinessRule> = rules.iter().map(TestRule::object).collect();
        let mut expected = BTreeMap::new();
        for object in &objects {
            if Selector::try_from(object.spec.node_selector.clone()).unwrap().matches(&labels) {
                for probe in &object.spec.probes {
                    let name = object.metadata.name.clone().unwrap();
                    expected.entry(probe.condition_type.clone()).or_insert(name);
                }
            }
        }
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}
