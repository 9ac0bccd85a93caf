//! Measures the time of a plan, and of a full evaluation by nodes and rules.
//!
//! `cargo bench -p node-readiness-engine` prints the evaluations of a node under a rule per second, on one core.
#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is how a benchmark fails")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use k8s_openapi::jiff::Timestamp;
use node_readiness_engine::{
    CoveredNodes, Evaluations, Heartbeats, Node, NodePlan, PlanContext, RegressedNodes, Rule,
    RuleSet, plan,
};
use serde_json::{Value, json};

fn rule(number: usize) -> Rule {
    let rule = json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {
            "name": format!("rule-{number}"), "uid": format!("0000-{number:032}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
        },
        "spec": {
            "nodeSelector": {"matchExpressions": [
                {"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"},
            ]},
            "conditions": [{"type": condition(number), "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": format!("readiness.k8s.io/rule-{number}"), "effect": "NoSchedule"},
        },
    });
    Rule::compile(&serde_json::from_value(rule).unwrap()).unwrap()
}

fn rules(number: usize) -> RuleSet {
    RuleSet::new((0..number).map(rule), [])
}

fn condition(rule: usize) -> String {
    format!("example.com/Ready-{rule}")
}

/// A node before any rule changed it.
fn bare(number: usize, rules: usize, status: &str) -> Value {
    let conditions: Vec<_> = (0..rules)
        .map(|rule| {
            json!({"type": condition(rule), "status": status,
                "lastHeartbeatTime": "2026-01-01T00:00:00Z"})
        })
        .collect();
    json!({
        "metadata": {
            "name": format!("node-{number}"), "uid": format!("uid-{number}"), "annotations": {},
            "labels": {"kubernetes.io/hostname": format!("node-{number}"), "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "z"},
        },
        "spec": {},
        "status": {"conditions": conditions},
    })
}

/// The inputs of a plan in addition to nodes and rules.
#[derive(Default)]
struct Surroundings {
    heartbeats: Heartbeats,
    regressed_nodes: RegressedNodes,
    covered_nodes: CoveredNodes,
}

impl Surroundings {
    fn plan(&self, node: &Node, rules: &RuleSet) -> NodePlan {
        let Self { heartbeats, regressed_nodes, covered_nodes } = self;
        let context = PlanContext::unobserved(Timestamp::UNIX_EPOCH, Duration::from_mins(1));
        plan(node, rules, &PlanContext { heartbeats, regressed_nodes, covered_nodes, ..context })
    }
}

/// A node that all rules have changed already: the most common case, in which a plan changes nothing.
fn unchanged(number: usize, rules: &RuleSet, status: &str) -> Node {
    let mut node = bare(number, rules.iter().count(), status);
    let plan = Surroundings::default().plan(&serde_json::from_value(node.clone()).unwrap(), rules);
    let changes = plan.patch.unwrap().0.into_iter();
    let changes = changes.filter(|change| !matches!(change, json_patch::PatchOperation::Test(_)));
    json_patch::patch(&mut node, &json_patch::Patch(changes.collect())).unwrap();
    serde_json::from_value(node).unwrap()
}

fn observed(nodes: &[Node]) -> Surroundings {
    let mut surroundings = Surroundings::default();
    for node in nodes {
        surroundings.heartbeats.observe(node, Duration::ZERO);
    }
    surroundings
}

fn one_node(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan one node");
    for number in [1, 10, 50] {
        let rules = rules(number);
        group.throughput(Throughput::Elements(number as u64));
        let cases = [
            ("held", unchanged(0, &rules, "False")),
            ("released", unchanged(0, &rules, "True")),
            ("new", serde_json::from_value(bare(0, number, "False")).unwrap()),
        ];
        for (name, node) in cases {
            let surroundings = observed(std::slice::from_ref(&node));
            group.bench_function(BenchmarkId::new(name, number), |bencher| {
                bencher.iter(|| surroundings.plan(black_box(&node), &rules));
            });
        }
    }
}

fn full_evaluation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan all nodes");
    group.sample_size(10);
    for (nodes, number) in
        [(1000, 1), (50_000, 1), (1000, 10), (50_000, 10), (1000, 50), (50_000, 50)]
    {
        let rules = rules(number);
        let all: Vec<_> = (0..nodes).map(|node| unchanged(node, &rules, "False")).collect();
        let surroundings = observed(&all);
        group.throughput(Throughput::Elements((nodes * number) as u64));
        group.bench_function(format!("{nodes} nodes, {number} rules"), |bencher| {
            bencher.iter(|| {
                for node in &all {
                    black_box(surroundings.plan(node, &rules));
                }
            });
        });
    }
}

fn evaluations(criterion: &mut Criterion) {
    let rules = rules(10);
    let nodes: Vec<_> = (0..5000).map(|node| unchanged(node, &rules, "False")).collect();
    let surroundings = observed(&nodes);
    let plans: Vec<_> = nodes.iter().map(|node| surroundings.plan(node, &rules)).collect();
    criterion.bench_function("record the evaluations of 5000 nodes and 10 rules", |bencher| {
        let enter = |mut evaluations: Evaluations| {
            for (node, plan) in nodes.iter().zip(&plans) {
                evaluations.record(node.name(), plan, None, Timestamp::UNIX_EPOCH);
            }
            evaluations
        };
        bencher.iter_batched(Evaluations::default, enter, BatchSize::LargeInput);
    });
}

criterion_group!(benches, one_node, full_evaluation, evaluations);
criterion_main!(benches);
