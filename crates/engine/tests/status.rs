//! The content and the size of a rule's status.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{TestNode, TestRule, at, plan};
use node_readiness_api::{NodeReadinessRuleStatus, ReporterStatus, TaintPresence};
use node_readiness_engine::reporter::{Overlap, Overlaps};
use node_readiness_engine::status::{MAX_NODES, ReporterReport, Reporters, fold, rejected};
use node_readiness_engine::{Evaluations, Failure, RuleSet};
use serde_json::json;

fn applied(desired: i32, ready: i32, trouble: Option<&str>) -> Reporters {
    let daemon_set = "nrr-reporters/reporter".to_owned();
    Reporters::Applied {
        status: ReporterStatus { daemon_set, desired, ready },
        changed: None,
        trouble: trouble.map(str::to_owned),
    }
}

/// A rule with the recorded evaluations of its nodes.
struct Scene {
    rule: TestRule,
    evaluations: Evaluations,
}

impl Scene {
    fn new(rule: TestRule) -> Self {
        Self { rule, evaluations: Evaluations::default() }
    }

    fn node(&mut self, name: &str, status: Option<&str>, failure: Option<&str>) {
        let mut node = TestNode::new(name).label("os", "linux");
        if let Some(status) = status {
            node = node.condition("Ready1", status);
        }
        let rules = RuleSet::new([self.rule.compile()], []);
        let plan = plan(&node.view(), &rules, at(0));
        let failure =
            failure.map(|message| Failure { reason: "Forbidden".into(), message: message.into() });
        self.evaluations.record(name, &plan, failure.as_ref(), at(0));
    }

    fn nodes(&mut self, prefix: &str, number: usize, status: Option<&str>) {
        for n in 0..number {
            self.node(&format!("{prefix}{n:04}"), status, None);
        }
    }

    fn status(&self) -> NodeReadinessRuleStatus {
        self.status_with(&Reporters::None, None, 1)
    }

    fn status_with(
        &self,
        reporters: &Reporters,
        previous: Option<&NodeReadinessRuleStatus>,
        seconds: i64,
    ) -> NodeReadinessRuleStatus {
        let rule = self.rule.compile();
        let covered = self.evaluations.of(&rule.uid).count();
        fold(
            &rule,
            covered,
            self.evaluations.of(&rule.uid),
            &ReporterReport { reporters, overlaps: &Overlaps::new(), unsupported: &[] },
            None,
            previous,
            at(seconds),
        )
    }
}

fn message(status: &NodeReadinessRuleStatus, type_: &str) -> (String, String, String) {
    let condition = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

#[test]
fn lists_are_complete_for_few_nodes() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.nodes("n", MAX_NODES, Some("True"));
    let status = scene.status();
    assert_eq!(status.node_evaluations.len(), MAX_NODES);
    assert_eq!(status.applied_nodes.len(), MAX_NODES);
    assert_eq!(status.nodes_omitted, None);
}

#[test]
fn lists_for_many_nodes_name_only_nodes_that_need_attention_and_failed_ones_first() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.nodes("ready", 4000, Some("True"));
    scene.nodes("held", 1000, None);
    scene.node("zzz", Some("False"), Some("nodes is forbidden"));
    let status = scene.status();
    let counts = status.nodes.unwrap();
    assert_eq!((counts.matched, counts.ready, counts.held, counts.failed), (5001, 4000, 1000, 1));
    assert_eq!(status.node_evaluations.len(), MAX_NODES);
    assert_eq!(status.node_evaluations[0].node_name, "zzz");
    assert_eq!(status.nodes_omitted, Some(5001 - 100));
    assert_eq!(status.failed_nodes.len(), 1);
    assert!(!status.applied_nodes.contains(&"zzz".to_owned()));
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 64 * 1024, "{size} bytes");
}

#[test]
fn a_message_names_the_first_few_with_the_cause() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.nodes("n", 5, Some("False"));
    let (status, reason, text) = message(&scene.status(), "NodesReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NodesHeld"));
    let cause = "Ready1 is False, must be True";
    assert_eq!(
        text,
        format!(
            "5 of 5 nodes are held: n0000: {cause}; n0001: {cause}; n0002: {cause}; and 2 more"
        )
    );
}

#[test]
fn a_failure_quotes_the_api_server() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("n", None, Some("nodes \"n\" is forbidden"));
    let status = scene.status();
    assert_eq!(status.failed_nodes[0].reason, "Forbidden");
    let (_, reason, text) = message(&status, "NodesReady");
    assert_eq!(reason, "NodesFailed");
    assert_eq!(text, "1 of 1 nodes could not be written: n: nodes \"n\" is forbidden");
}

#[test]
fn the_status_reports_the_node_and_not_a_failed_plan() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("n", None, Some("refused"));
    let status = scene.status();
    assert_eq!(status.node_evaluations[0].taint_status, TaintPresence::Absent);
    assert_eq!(status.nodes.unwrap().held, 0);
}

#[test]
fn neither_a_rule_nor_its_nodes_are_ready_before_all_of_them_were_evaluated() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("n", Some("True"), None);
    let rule = scene.rule.compile();
    let of = |rule: &node_readiness_engine::Rule, covered| {
        let entries = scene.evaluations.of(&rule.uid);
        let report = ReporterReport {
            reporters: &Reporters::None,
            overlaps: &Overlaps::new(),
            unsupported: &[],
        };
        fold(rule, covered, entries, &report, None, None, at(1))
    };
    assert_eq!(message(&of(&rule, 1), "NodesReady").0, "True");
    assert_eq!(of(&rule, 3).nodes_omitted, Some(2));
    let (status, reason, text) = message(&of(&rule, 3), "NodesReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Evaluating"));
    assert_eq!(text, "2 of 3 nodes are not evaluated yet");
    assert_eq!(message(&of(&rule, 3), "Ready").1, "Evaluating");
    // Evaluations under another spec do not count.
    scene.rule.0["metadata"]["generation"] = json!(2);
    assert_eq!(message(&of(&scene.rule.compile(), 1), "NodesReady").1, "Evaluating");
}

#[test]
fn single_nodes_and_reporters_do_not_change_whether_a_rule_is_in_effect() {
    let mut scene = Scene::new(TestRule::new("cni"));
    let in_effect = |scene: &Scene, reporters: &Reporters| {
        let (status, reason, _) = message(&scene.status_with(reporters, None, 1), "Ready");
        (status, reason)
    };
    let yes = |reason: &str| ("True".to_owned(), reason.to_owned());
    let no = |reason: &str| ("False".to_owned(), reason.to_owned());
    let broken = applied(2, 1, None);

    assert_eq!(in_effect(&scene, &Reporters::None), yes("InEffect"));
    scene.node("held", Some("False"), None);
    scene.node("failing", None, Some("refused"));
    assert_eq!(in_effect(&scene, &broken), yes("InEffect"));
    let starting = Reporters::Starting("nrr-reporters/reporter".to_owned());
    assert_eq!(in_effect(&scene, &starting), no("ReportersNotReady"));
    assert_eq!(in_effect(&scene, &Reporters::AwaitingPolicy), no("AwaitingPolicy"));
    assert_eq!(in_effect(&scene, &Reporters::Failed("refused".to_owned())), no("ApplyFailed"));

    let failed = Reporters::Failed("refused".to_owned());
    scene.rule = TestRule::new("cni").spec("suspend", json!(true));
    assert_eq!(in_effect(&scene, &failed), yes("Suspended"));
    scene.rule = TestRule::new("cni").spec("dryRun", json!(true));
    assert_eq!(in_effect(&scene, &Reporters::None), yes("DryRun"));
    assert_eq!(in_effect(&scene, &failed), no("ApplyFailed"));
}

#[test]
fn a_rule_that_can_write_none_of_its_nodes_is_not_in_effect() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("a", None, Some("refused"));
    let (status, reason, text) = message(&scene.status(), "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NodesFailed"));
    assert_eq!(text, "none of 1 nodes could be written; see NodesReady");
}

#[test]
fn the_time_of_a_transition_is_kept_until_the_status_changes() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("n", None, None);
    let first = scene.status_with(&Reporters::None, None, 1);
    scene.node("m", None, None);
    let second = scene.status_with(&Reporters::None, Some(&first), 60);
    let ready = |status: &NodeReadinessRuleStatus| {
        status.conditions.iter().find(|c| c.type_ == "NodesReady").unwrap().clone()
    };
    assert_ne!(ready(&first).message, ready(&second).message);
    assert_eq!(ready(&first).last_transition_time, ready(&second).last_transition_time);
    scene.node("n", Some("True"), None);
    scene.node("m", Some("True"), None);
    let third = scene.status_with(&Reporters::None, Some(&second), 120);
    assert_ne!(ready(&second).last_transition_time, ready(&third).last_transition_time);
}

#[test]
fn equal_results_make_equal_statuses() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("n", None, None);
    let first = scene.status_with(&Reporters::None, None, 1);
    scene.node("n", None, None);
    assert_eq!(scene.status_with(&Reporters::None, Some(&first), 60), first);
}

#[test]
fn a_dry_run_reports_its_effects_and_holds_nothing() {
    let mut scene = Scene::new(TestRule::new("dry").spec("dryRun", json!(true)));
    scene.node("a", Some("False"), None);
    scene.node("b", None, None);
    let status = scene.status();
    let results = status.dry_run_results.clone().unwrap();
    assert_eq!((results.affected_nodes, results.taints_to_add), (2, 2));
    assert_eq!(results.summary, "would add 2 taints, 1 nodes have missing conditions");
    assert_eq!(status.nodes.unwrap().held, 0);
    assert!(message(&status, "NodesReady").2.contains("would be held"));
}

#[test]
fn a_dry_run_would_not_remove_a_taint_that_another_rule_holds() {
    let mut scene = Scene::new(TestRule::new("dry").spec("dryRun", json!(true)));
    let elsewhere = json!([{"type": "Ready2", "requiredStatus": "True"}]);
    let other = TestRule::new("cni").spec("conditions", elsewhere);
    let rules = RuleSet::new([scene.rule.compile(), other.compile()], []);
    let mut node = TestNode::new("n").label("os", "linux").condition("Ready1", "True");
    node.reconcile(&rules, at(0));
    scene.evaluations.record("n", &plan(&node.view(), &rules, at(1)), None, at(1));
    assert_eq!(scene.status().dry_run_results.unwrap().summary, "No changes needed");

    // A taint that no rule holds, such as one that the node registered with.
    scene.evaluations = Evaluations::default();
    let node = TestNode::new("n").label("os", "linux").condition("Ready1", "True");
    let node = node.taint("readiness.k8s.io/Net", "pending", "NoSchedule");
    let alone = RuleSet::new([scene.rule.compile()], []);
    scene.evaluations.record("n", &plan(&node.view(), &alone, at(1)), None, at(1));
    assert_eq!(scene.status().dry_run_results.unwrap().summary, "would remove 1 taints");
}

#[test]
fn a_dry_run_counts_missing_conditions_even_if_a_default_applies() {
    let conditions = json!([{"type": "Ready1", "requiredStatus": "True", "defaultStatus": "True"}]);
    let rule = TestRule::new("dry").spec("dryRun", json!(true)).spec("conditions", conditions);
    let mut scene = Scene::new(rule);
    scene.node("missing", None, None);
    scene.node("there", Some("True"), None);
    let results = scene.status().dry_run_results.unwrap();
    assert_eq!((results.taints_to_add, results.risky_operations), (0, 1));
    assert_eq!(results.summary, "1 nodes have missing conditions");
}

#[test]
fn unready_reporters_are_reported_with_a_command() {
    let scene = Scene::new(TestRule::new("cni"));
    let counted = |ready| applied(2, ready, None);
    let (status, reason, text) = message(&scene.status_with(&counted(1), None, 1), "ReporterReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ReportersNotReady"));
    assert!(text.contains("kubectl -n nrr-reporters describe daemonset reporter "), "{text}");
    let (status, ..) = message(&scene.status_with(&counted(2), None, 1), "ReporterReady");
    assert_eq!(status, "True");
}

#[test]
fn the_status_quotes_why_reporters_do_not_run() {
    let scene = Scene::new(TestRule::new("cni"));
    let reported = |reporters| message(&scene.status_with(&reporters, None, 1), "ReporterReady");
    let (_, reason, text) = reported(applied(2, 0, Some("ErrImagePull: not found (n and 1 more)")));
    assert_eq!(reason, "ReportersNotReady");
    assert!(
        text.starts_with("0 of 2 reporters are ready; ErrImagePull: not found (n and 1 more); see")
    );
    // The problem of a replaced pod is not reported when all are ready.
    assert!(!reported(applied(2, 2, Some("Error"))).2.contains("Error"));
}

#[test]
fn nodes_on_which_no_reporter_can_run_are_named_with_the_reason() {
    let rule = TestRule::new("cni").compile();
    let unsupported = [("win".to_owned(), "kubernetes.io/os is windows".to_owned())];
    let reported = |reporters: &Reporters| {
        let report =
            ReporterReport { reporters, overlaps: &Overlaps::new(), unsupported: &unsupported };
        let status = fold(&rule, 2, std::iter::empty(), &report, None, None, at(0));
        message(&status, "ReporterReady")
    };
    let (status, reason, text) = reported(&applied(1, 1, None));
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NodesUnsupported"));
    assert_eq!(
        text,
        "no reporter can run on 1 of the rule's nodes: win (kubernetes.io/os is windows); exclude them by \
         spec.nodeSelector; 1 of 1 reporters of this rule are ready"
    );
    assert_eq!(reported(&Reporters::Failed("refused".to_owned())).1, "ApplyFailed");
}

#[test]
fn an_overlap_names_the_older_rule_a_node_and_the_remedy() {
    let rule = TestRule::new("cni").compile();
    let reported = |reporters: &Reporters| {
        let overlap =
            Overlap { older: vec!["csi".to_owned()], nodes: 3, first: "node-a".to_owned() };
        let overlaps = Overlaps::from([("Ready1".to_owned(), overlap)]);
        let report = ReporterReport { reporters, overlaps: &overlaps, unsupported: &[] };
        let status = fold(&rule, 0, std::iter::empty(), &report, None, None, at(0));
        message(&status, "ReporterReady")
    };
    let (status, reason, text) = reported(&applied(2, 1, None));
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ProbeConflict"));
    assert!(text.contains("Ready1 by csi on 3 nodes (first node-a)"), "{text}");
    assert!(text.contains("remove the probe from one of them, or make their nodeSelectors"));
    assert!(text.ends_with("1 of 2 reporters of this rule are ready"), "{text}");
    // What keeps the reporters from running comes first.
    assert_eq!(reported(&Reporters::Failed("refused".to_owned())).1, "ApplyFailed");
}

#[test]
fn a_rejected_rule_keeps_its_earlier_results() {
    let mut scene = Scene::new(TestRule::new("cni"));
    scene.node("n", None, None);
    let before = scene.status();
    let after = rejected("spec.nodeSelector is wrong", Some(2), Some(&before), at(5));
    assert_eq!(message(&after, "Accepted").2, "spec.nodeSelector is wrong");
    assert_eq!(message(&after, "Ready").0, "False");
    assert_eq!(message(&after, "NodesReady").0, "Unknown");
    assert_eq!(after.node_evaluations, before.node_evaluations);
    assert_eq!(after.observed_generation, Some(2));
}
