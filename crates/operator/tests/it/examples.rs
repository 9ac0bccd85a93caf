//! Tests of `examples/`. The API server accepts every rule, without unknown fields. Each scenario works with the
//! operator flags of its README, and needs all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{Api, Patch, PatchParams};
use node_readiness_api::{
    NodeReadinessRule, NodeReadinessRuleSpec, NodeReadinessRuleStatus, PodRequirement,
};
use node_readiness_engine::reporter::{
    Allowances, ConstrainedImpersonation, MaxUnavailable, Member, Refusal, ReporterSets, Settings,
    admit, generate,
};
use node_readiness_operator::Args;
use serde_json::{Value, json};

use crate::harness::{Fixture, REPORTERS, eventually, gone, kubectl};
use crate::signals::{TestPod, allocate, publish_slice, register_csi_drivers};

/// The minimum numbers of files with rules and of scenarios, so that a search that finds nothing fails.
const AT_LEAST: usize = 24;
const SCENARIOS_AT_LEAST: usize = 8;
const AGENTS_AT_LEAST: usize = 11;

/// The text before the operator's flags in a README.
const DEPLOY: &str = "make deploy OPERATOR_FLAGS=";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Returns the entries of a directory.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path())
}

/// Returns the folders that have one scenario. `fields` has none, and `agents` has one for each file.
fn scenarios() -> Vec<PathBuf> {
    let is_scenario =
        |path: &PathBuf| path.is_dir() && !path.ends_with("fields") && !path.ends_with("agents");
    entries(&examples()).filter(is_scenario).collect()
}

/// Returns the YAML files below a directory.
fn manifests(directory: &Path) -> Vec<PathBuf> {
    let files = entries(directory).flat_map(|path| {
        if path.is_dir() {
            return manifests(&path);
        }
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if is_yaml { vec![path] } else { Vec::new() }
    });
    files.collect()
}

/// Returns the number of rules in a file.
fn rules_in(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| *line == "kind: NodeReadinessRule").count()
}

fn readme(scenario: &Path) -> String {
    fs::read_to_string(scenario.join("README.md")).unwrap()
}

/// Returns the operator's flags in a scenario's README.
fn flags(scenario: &Path) -> Vec<String> {
    let text = readme(scenario);
    let given = text.lines().filter_map(|line| line.strip_prefix(DEPLOY));
    let given = given.flat_map(|flags| flags.trim_matches('"').split_whitespace());
    given.map(str::to_owned).collect()
}

/// Returns the flags of all scenarios.
pub fn operator_flags() -> Vec<String> {
    scenarios().iter().flat_map(|scenario| flags(scenario)).collect()
}

#[tokio::test]
async fn the_api_server_accepts_every_example() {
    let _installed = Fixture::new("examples").await;
    let mut taken = 0;
    for path in manifests(&examples()) {
        let file = path.to_str().unwrap();
        // kubectl() fails the test with the API server's message if the API server refuses a rule.
        let said = kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file]);
        let rules = rules_in(&path);
        assert!(rules > 0 || !path.starts_with(examples().join("fields")), "{file} has no rule");
        assert!(said.matches("(server dry run)").count() >= rules.max(1), "{file}: {said}");
        taken += usize::from(rules > 0);
    }
    assert!(taken >= AT_LEAST, "only {taken} files with rules were found");
}

#[tokio::test]
async fn every_scenario_works_with_exactly_the_flags_of_its_readme() {
    let t = Fixture::new("scenarios").await;
    let scenarios = scenarios();
    assert!(scenarios.len() >= SCENARIOS_AT_LEAST, "only {scenarios:?} were found");
    join_all(scenarios.iter().map(|scenario| comes_to_pass(&t, scenario))).await;
}

#[tokio::test]
async fn a_node_takes_pods_when_the_agents_of_an_example_work() {
    let t = Fixture::new("agents").await;
    let files = manifests(&examples().join("agents"));
    assert!(files.len() >= AGENTS_AT_LEAST, "only {files:?} were found");
    for namespace in ["calico-system", "istio-system", "linkerd-cni", "logging"] {
        kubectl(&["create", "namespace", namespace]);
    }
    join_all(files.iter().map(|file| is_released(&t, file))).await;
}

/// Applies a rule to its own node, and creates what it requires there.
async fn is_released(t: &Fixture, file: &Path) {
    let name = file.file_stem().unwrap().to_str().unwrap();
    let rule_name = t.named(name);
    let labels = json!({"test": rule_name});
    let mut rule = read(file);
    rule["metadata"]["name"] = json!(rule_name);
    rule["spec"]["nodeSelector"] = json!({"matchLabels": labels});
    let taint = &rule["spec"]["taint"];
    let key = taint["key"].as_str().unwrap();
    let held =
        format!("{}:{}", taint["value"].as_str().unwrap(), taint["effect"].as_str().unwrap());
    // The node registers with the taint, so that it is new to the rule.
    let node = t.node(name, &json!([taint])).await;
    let labelled = Patch::Merge(json!({"metadata": {"labels": labels}}));
    t.nodes().patch(&node, &PatchParams::default(), &labelled).await.unwrap();
    t.apply(&rule).await;
    t.expect_status(&rule_name, |status| status.nodes.is_some_and(|nodes| nodes.held == 1)).await;
    t.expect_taints(&node, key, &[&held]).await;

    let spec: NodeReadinessRuleSpec = serde_json::from_value(rule["spec"].clone()).unwrap();
    for PodRequirement { name, namespace, selector } in &spec.pods {
        let name = format!("{rule_name}-{name}");
        let labels = json!(selector.match_labels);
        let pod = TestPod { namespace, name: &name, labels, node: &node };
        pod.create(t).await;
        pod.report(t, "True", "1").await;
    }
    let drivers: Vec<&str> = spec.csi_drivers.iter().map(String::as_str).collect();
    register_csi_drivers(t, &node, &drivers).await;
    for resource in &spec.resources {
        allocate(t, &node, &resource.name, "8").await;
    }
    for driver in &spec.resource_drivers {
        publish_slice(t, &rule_name, driver, &node, 1).await;
    }
    t.expect_taints(&node, key, &[]).await;
    t.delete_rule(&rule_name).await;
}

/// Applies a scenario's rule to its own node, and changes the conditions of that node.
async fn comes_to_pass(t: &Fixture, scenario: &Path) {
    let name = scenario.file_name().unwrap().to_str().unwrap();
    let node = t.node(name, &Value::Null).await;
    let mut rule = rule_of(scenario);
    assert_flags(&rule, &flags(scenario), name);
    let spec = &mut rule["spec"];
    // The rule must not hold other tests' nodes.
    spec["nodeSelector"]["matchLabels"]["test"] = json!(t.named(name));
    let labels = json!({"metadata": {"labels": spec["nodeSelector"]["matchLabels"]}});
    t.nodes().patch(&node, &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
    let taint = spec["taint"].clone();
    let taint_key = taint["key"].as_str().unwrap();
    let set = format!("{}:{}", taint["value"].as_str().unwrap(), taint["effect"].as_str().unwrap());
    let dry_run = spec["dryRun"] == true;
    // The effect of a dry run is in the status, and the effect of any other rule is on the node.
    let held: &[&str] = if dry_run { &[] } else { &[&set] };
    let counts = |held: bool| {
        move |status: &NodeReadinessRuleStatus| {
            let holds = match &status.dry_run_results {
                Some(results) if dry_run => results.taints_to_add,
                _ => status.nodes.map_or(0, |nodes| nodes.held),
            };
            status.nodes.is_some_and(|nodes| nodes.ready == u32::from(!held))
                && holds == u32::from(held)
        }
    };

    t.await_older_than_now(&node).await;
    let applied = t.apply(&rule).await;
    let rule_name = applied.metadata.name.as_deref().unwrap();
    let spec = &applied.spec;
    let is_probed = |type_: &str| spec.probes.iter().any(|probe| probe.condition_type == type_);
    if spec.conditions.iter().all(|condition| is_probed(&condition.type_)) {
        // The node is older than the rule, so the rule waits for the results of its probes.
        let pending =
            |status: &NodeReadinessRuleStatus| status.nodes.is_some_and(|nodes| nodes.pending == 1);
        t.expect_status(rule_name, pending).await;
        t.expect_taints(&node, taint_key, &[]).await;
    } else {
        t.expect_status(rule_name, counts(true)).await;
        t.expect_taints(&node, taint_key, held).await;
    }
    if !spec.probes.is_empty() {
        assert_reporters(t, &applied, &readme(scenario)).await;
    }
    let report = async |status: &str| {
        for condition in &applied.spec.conditions {
            t.report(&node, &condition.type_, status).await;
        }
    };
    report("True").await;
    t.expect_status(rule_name, counts(false)).await;
    t.expect_taints(&node, taint_key, &[]).await;
    if rule["spec"]["enforcementMode"] == "continuous" {
        report("False").await;
        t.expect_status(rule_name, counts(true)).await;
        t.expect_taints(&node, taint_key, held).await;
    }
    t.delete_rule(rule_name).await;
    gone(&t.rules(), rule_name).await;
    t.expect_taints(&node, taint_key, &[]).await;
}

/// Returns the one rule of a scenario.
fn rule_of(scenario: &Path) -> Value {
    let files: Vec<_> = manifests(scenario).into_iter().filter(|file| rules_in(file) > 0).collect();
    let [file] = &files[..] else { panic!("{} must have one rule", scenario.display()) };
    read(file)
}

/// Returns the object in a file.
fn read(file: &Path) -> Value {
    let client_side = ["create", "--dry-run=client", "--output=json", "-f"];
    let json = kubectl(&[&client_side[..], &[file.to_str().unwrap()]].concat());
    serde_json::from_str(&json).unwrap()
}

/// Checks that an operator with these flags accepts the rule, and that it refuses the rule if one of them is missing.
fn assert_flags(rule: &Value, flags: &[String], name: &str) {
    let rule: NodeReadinessRule = serde_json::from_value(rule.clone()).unwrap();
    let admitted = |flags: &[String]| -> Result<(), Refusal> {
        let start = ["node-readiness-operator".to_owned(), "--reporter-image=i".to_owned()];
        let settings = Args::parse_from(start.iter().chain(flags)).reporter.settings();
        admit(&rule, &settings.allowances, ConstrainedImpersonation::Works)
    };
    assert_eq!(admitted(flags), Ok(()), "{name}");
    for flag in flags {
        let others: Vec<_> = flags.iter().filter(|other| *other != flag).cloned().collect();
        let refusal = admitted(&others).expect_err(flag);
        assert_eq!(refusal.reason, "NotAllowed");
        let (flag, _) = flag.split_once('=').unwrap_or((flag, ""));
        assert!(refusal.message.contains(flag), "{name}: {refusal:?} does not name {flag}");
    }
}

/// Checks that a rule has reporters, and that the README names the node's directories that they mount for it.
async fn assert_reporters(t: &Fixture, rule: &NodeReadinessRule, readme: &str) {
    let sets = ReporterSets::of(&[Member::Current(rule)], &BTreeMap::new()).unwrap().sets;
    let [set] = &sets[..] else { panic!("{sets:?}") };
    let daemon_sets: Api<DaemonSet> = Api::namespaced(t.client.clone(), REPORTERS);
    eventually(&daemon_sets, &set.name, |_| true).await;
    let settings = Settings {
        namespace: REPORTERS.to_owned(),
        image: "i".to_owned(),
        allowances: Allowances::default(),
    };
    let objects = generate(set, &settings, MaxUnavailable::default()).unwrap();
    let volumes = objects.daemon_set.spec.template.spec.unwrap().volumes.unwrap();
    for directory in volumes.into_iter().filter_map(|volume| volume.host_path) {
        let named = format!("`{}`", directory.path);
        assert!(readme.contains(&named), "the README of {rule:?} does not name {named}");
    }
}
