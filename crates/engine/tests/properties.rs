//! Properties of every set of rules, every node and every order of events.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::collections::BTreeMap;

use common::signals::{lists, pod, pods, required_pods};
use common::{Operator, TestNode, TestRule, rules};
use node_readiness_engine::signals::SignalObject;
use node_readiness_engine::{NodePlan, RuleSet};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

const KEYS: [&str; 2] = ["readiness.k8s.io/a", "readiness.k8s.io/b"];
const CONDITIONS: [&str; 2] = ["C1", "C2"];
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];
const FOREIGN: [&str; 3] = ["example.com/x", "node.kubernetes.io/not-ready", "readiness.k8s.io/c"];
const GROUPS: [&str; 2] = ["g1", "g2"];

/// An event in the cluster.
#[derive(Clone, Debug)]
enum Step {
    /// A rule is created or edited.
    Rule(TestRule),
    /// The rule of that name is deleted.
    Forget(String),
    /// A condition of the node is reported.
    Report(&'static str, &'static str),
    /// The required pod is created, is Ready or not, or is deleted.
    Pod(Option<bool>),
    /// The node has this many GPUs.
    Gpus(u32),
    /// The node moves to another group.
    Relabel(&'static str),
    /// The operator reconciles the node.
    Reconcile,
}

/// The cluster: rules by name, and one node.
#[derive(Clone, Debug)]
struct Environment {
    rules: BTreeMap<String, TestRule>,
    node: TestNode,
    /// Whether the required pod is Ready, if it exists.
    pod: Option<bool>,
}

impl Environment {
    fn new(node: TestNode) -> Self {
        Self { rules: BTreeMap::new(), node, pod: None }
    }

    fn rule_set(&self) -> RuleSet {
        rules(&self.rules.values().cloned().collect::<Vec<_>>())
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Rule(rule) => {
                let name = rule.0["metadata"]["name"].as_str().unwrap().to_owned();
                self.rules.insert(name, rule.clone());
            }
            Step::Forget(name) => drop(self.rules.remove(name)),
            Step::Report(type_, status) => {
                self.node = self.node.clone().condition(type_, status);
            }
            Step::Relabel(group) => self.node = self.node.clone().label("group", group),
            Step::Pod(pod) => self.pod = *pod,
            Step::Gpus(number) => {
                let quantities = json!({"example.com/gpu": number.to_string()});
                self.node.0["status"]["allocatable"] = quantities;
            }
            Step::Reconcile => drop(self.reconcile()),
        }
    }

    /// Reconciles the node by an operator that has just started.
    fn reconcile(&mut self) -> NodePlan {
        let rules = self.rule_set();
        let mut operator = Operator::started(&[&self.node]);
        let pod = self.pod.map(|ready| pod(ready, "1"));
        let listed = pod.as_ref().map(|pod| pod as &dyn SignalObject);
        lists(&mut operator, &pods(), listed.as_slice());
        operator.reconcile(&mut self.node, &rules)
    }

    /// Returns the taints that live continuous rules require, computed independently of the engine.
    fn called_for(&self) -> Vec<String> {
        let mut wanting: Vec<_> = self
            .rules
            .values()
            .filter(|rule| self.covers(rule) && !self.satisfied(rule))
            .map(|rule| {
                let (meta, taint) = (&rule.0["metadata"], &rule.0["spec"]["taint"]);
                let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
                let age = (text(&meta["creationTimestamp"]), text(&meta["name"]));
                (age, text(&taint["key"]), text(&taint["value"]))
            })
            .collect();
        wanting.sort();
        let mut taints = BTreeMap::new();
        for (_, key, value) in wanting {
            taints.entry(key).or_insert(value);
        }
        taints.into_iter().map(|(key, value)| format!("{key}={value}:NoSchedule")).collect()
    }

    fn covers(&self, rule: &TestRule) -> bool {
        let labels = &rule.0["spec"]["nodeSelector"]["matchLabels"];
        rule.0["metadata"]["deletionTimestamp"].is_null()
            && labels["group"] == self.node.0["metadata"]["labels"]["group"]
    }

    fn satisfied(&self, rule: &TestRule) -> bool {
        let conditions =
            self.node.0["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let spec = &rule.0["spec"];
        let conditions = spec["conditions"].as_array().unwrap().iter().map(|required| {
            let found = conditions.iter().find(|found| found["type"] == required["type"]);
            // A condition that the node does not have counts as Unknown.
            let status = found.map_or(json!("Unknown"), |found| found["status"].clone());
            status == required["requiredStatus"]
        });
        let pods = spec["pods"].as_array().into_iter().flatten().map(|_| self.pod == Some(true));
        let gpus = &self.node.0["status"]["allocatable"]["example.com/gpu"];
        let gpus: u64 = gpus.as_str().map_or(0, |gpus| gpus.parse().unwrap());
        let resources = spec["resources"].as_array().into_iter().flatten();
        let resources = resources.map(|required| gpus >= required["minimum"].as_u64().unwrap());
        let mut met = conditions.chain(pods).chain(resources);
        if spec["conditionPolicy"] == "anyOf" { met.any(|met| met) } else { met.all(|met| met) }
    }
}

fn managed(node: &TestNode) -> Vec<String> {
    let taints = node.taints().into_iter();
    taints.filter(|taint| KEYS.iter().any(|key| taint.starts_with(&format!("{key}=")))).collect()
}

fn foreign(node: &TestNode) -> Vec<serde_json::Value> {
    let taints = node.0["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.into_iter().filter(|t| !KEYS.contains(&t["key"].as_str().unwrap())).collect()
}

fn live_rule() -> impl Strategy<Value = TestRule> {
    let name = select(vec!["r1", "r2", "r3"]);
    let taint = (select(&KEYS[..]), select(vec!["", "v1", "v2"]));
    let condition = (select(&CONDITIONS[..]), select(&STATUSES[..]));
    // Which of condition, pods and resources it requires, at least one of them.
    let requires = (1..8_u8, select(vec!["allOf", "anyOf"]), 1..3_u32);
    (name, taint, condition, requires, select(&GROUPS[..])).prop_map(
        |(name, (key, value), (type_, status), (requires, policy, minimum), group)| {
            let condition = json!({"type": type_, "requiredStatus": status});
            let resource = json!({"name": "example.com/gpu", "minimum": minimum});
            let given = |bit: u8, value| if requires & bit == 0 { json!([]) } else { value };
            // A rule's age depends on its name, so an edit does not change it.
            TestRule::new(name)
                .created(&format!("2026-01-0{}T00:00:00Z", &name[1..]))
                .taint(key, value)
                .spec("nodeSelector", json!({"matchLabels": {"group": group}}))
                .spec("conditions", given(1, json!([condition])))
                .spec("pods", given(2, required_pods()))
                .spec("resources", given(4, json!([resource])))
                .spec("conditionPolicy", json!(policy))
        },
    )
}

fn any_rule() -> impl Strategy<Value = TestRule> {
    (live_rule(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(rule, bootstrap, dry_run, deleting)| {
            let rule = if bootstrap { rule.bootstrap() } else { rule };
            let rule = rule.spec("dryRun", json!(dry_run));
            if deleting { rule.deleting() } else { rule }
        },
    )
}

fn steps(rule: impl Strategy<Value = TestRule> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => rule.prop_map(Step::Rule),
        1 => select(vec!["r1", "r2", "r3"]).prop_map(|name| Step::Forget(name.to_owned())),
        3 => (select(&CONDITIONS[..]), select(&STATUSES[..]))
            .prop_map(|(type_, status)| Step::Report(type_, status)),
        2 => any::<Option<bool>>().prop_map(Step::Pod),
        2 => (0..3_u32).prop_map(Step::Gpus),
        1 => select(&GROUPS[..]).prop_map(Step::Relabel),
        4 => Just(Step::Reconcile),
    ];
    prop::collection::vec(step, 1..20)
}

/// A node with taints that rules may not touch, and sometimes one that kubelet registered.
fn node(registered: bool) -> impl Strategy<Value = TestNode> {
    let foreign = prop::sample::subsequence(&FOREIGN[..], 0..=FOREIGN.len());
    (foreign, prop::option::of(select(&KEYS[..])), any::<bool>()).prop_map(move |made| {
        let (foreign, key, annotated) = made;
        let mut node = TestNode::new("n").label("group", "g1");
        for key in foreign {
            node = node.taint(key, "x", "NoExecute");
        }
        if let Some(key) = key.filter(|_| registered) {
            node = node.taint(key, "registered", "NoSchedule");
        }
        if annotated { node.annotation("example.com/a", "b") } else { node }
    })
}

proptest! {
    /// With live continuous rules, the taints depend only on the present rules and node, and not on earlier events
    /// or their order.
    #[test]
    fn final_taints_depend_on_the_final_state_only(node in node(false), steps in steps(live_rule())) {
        let mut environment = Environment::new(node);
        for step in &steps {
            environment.take(step);
        }
        environment.take(&Step::Reconcile);
        prop_assert_eq!(managed(&environment.node), environment.called_for());
    }

    #[test]
    fn planning_twice_yields_nothing_the_second_time(node in node(true), steps in steps(any_rule())) {
        let mut environment = Environment::new(node);
        for step in &steps {
            environment.take(step);
            environment.take(&Step::Reconcile);
            let again = environment.reconcile();
            prop_assert!(again.patch.is_none(), "{:?}", again.patch);
            prop_assert!(again.changes.is_empty(), "{:?}", again.changes);
        }
    }

    #[test]
    fn foreign_taints_are_never_touched(node in node(true), steps in steps(any_rule())) {
        let mut environment = Environment::new(node);
        let before = foreign(&environment.node);
        for step in &steps {
            environment.take(step);
            prop_assert_eq!(&foreign(&environment.node), &before);
        }
    }

    /// A taint that a plan removes or changes was claimed, or belongs to a live rule that covers the node.
    #[test]
    fn no_plan_changes_a_taint_that_no_rule_manages(node in node(true), steps in steps(any_rule())) {
        let mut environment = Environment::new(node);
        for step in &steps {
            let before = environment.clone();
            environment.take(step);
            for taint in managed(&before.node) {
                if managed(&environment.node).contains(&taint) {
                    continue;
                }
                let key = taint.split('=').next().unwrap();
                let record = before.node.record();
                let claimed = record.as_object().unwrap().values().any(|claim| {
                    claim["taint"]["key"] == key && claim["state"] == "held"
                });
                let acting = before.rules.values().any(|rule| {
                    rule.0["spec"]["taint"]["key"] == key
                        && rule.0["spec"]["dryRun"] != true
                        && before.covers(rule)
                });
                prop_assert!(claimed || acting, "{step:?} removed {taint} from {before:?}");
            }
        }
    }

    /// After each patch, a completed rule has no claim on the node, and the node carries every taint that a claim
    /// holds.
    #[test]
    fn completing_and_releasing_are_atomic(node in node(true), steps in steps(any_rule())) {
        let mut environment = Environment::new(node);
        for step in &steps {
            environment.take(step);
            let record = environment.node.record();
            for (name, claim) in record.as_object().unwrap() {
                let key = claim["taint"]["key"].as_str().unwrap();
                if claim["state"] == "held" {
                    let there = managed(&environment.node).iter().any(|t| t.starts_with(&format!("{key}=")));
                    prop_assert!(there, "{name} holds {key}, which the node does not carry");
                }
                let bootstrap = environment.rules.get(name).is_some_and(|rule| {
                    rule.0["spec"]["enforcementMode"] == "bootstrap-only"
                        && rule.0["spec"]["dryRun"] != true
                });
                if matches!(step, Step::Reconcile) && bootstrap {
                    let done = environment.node.completed().contains(&format!("uid-{name}"));
                    prop_assert!(!done, "{name} is completed on the node and claims {claim}");
                }
            }
        }
    }

    #[test]
    fn a_dry_run_alone_never_writes(node in node(true), steps in steps(any_rule())) {
        let mut environment = Environment::new(node);
        for step in &steps {
            let step = match step {
                Step::Rule(rule) => Step::Rule(rule.clone().spec("dryRun", json!(true))),
                other => other.clone(),
            };
            environment.take(&step);
            prop_assert!(environment.reconcile().patch.is_none());
        }
    }
}
