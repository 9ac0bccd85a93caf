//! The permissions with which reporters write, their limits, and the features that rules may use.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::reporter::ReporterNames;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Fixture, REPORTERS, configured, eventually, gone, reporter_set};

/// Returns a rule whose reporters act as their ServiceAccount.
fn without_impersonation(t: &Fixture) -> Value {
    let mut rule = t.probing_rule();
    rule["spec"]["reporter"]["access"] = json!("AdmissionPolicy");
    rule
}

fn policies(t: &Fixture) -> Api<ValidatingAdmissionPolicy> {
    Api::all(t.client.clone())
}

fn bindings(t: &Fixture) -> Api<ValidatingAdmissionPolicyBinding> {
    Api::all(t.client.clone())
}

fn roles(t: &Fixture) -> Api<ClusterRole> {
    Api::all(t.client.clone())
}

fn config_maps(t: &Fixture) -> Api<ConfigMap> {
    Api::namespaced(t.client.clone(), REPORTERS)
}

fn daemon_sets(t: &Fixture) -> Api<DaemonSet> {
    Api::namespaced(t.client.clone(), REPORTERS)
}

/// Returns the reason and message of a rule's `ReporterReady`, unless it is True.
fn trouble(rule: &NodeReadinessRule) -> Option<(String, String)> {
    let conditions = rule.status.iter().flat_map(|status| &status.conditions);
    let mut reporters = conditions.filter(|c| c.type_ == "ReporterReady" && c.status == "False");
    reporters.next().map(|condition| (condition.reason.clone(), condition.message.clone()))
}

#[tokio::test]
async fn a_policy_is_created_before_the_permission_that_it_limits_and_deleted_after_it() {
    let t = Fixture::new("guarded").await;
    let rule = without_impersonation(&t);
    t.apply(&rule).await;
    let set = reporter_set(&rule);
    let names = ReporterNames::of(&set);
    let (name, status_updater) = (names.policy.as_str(), names.status_updater.as_str());
    let granted = eventually(&roles(&t), status_updater, |_| true).await;
    let rules = serde_json::to_value(&granted.rules).unwrap();
    assert_eq!(
        rules[1],
        json!({"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["update"]})
    );
    let created =
        |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.unwrap().0;
    let policy = policies(&t).get(name).await.unwrap();
    let binding = bindings(&t).get(name).await.unwrap();
    // Creation times are in whole seconds. The operator waits some seconds until all API servers have the policy.
    for guard in [policy.metadata.creation_timestamp, binding.metadata.creation_timestamp] {
        assert!(created(guard) < created(granted.creation_timestamp()));
    }
    eventually(&daemon_sets(&t), &set, |_| true).await;
    assert!(roles(&t).get_opt(&names.impersonator).await.unwrap().is_none());

    t.delete_rule("guarded").await;
    gone(&roles(&t), status_updater).await;
    assert!(policies(&t).get_opt(name).await.unwrap().is_some(), "the policy outlives the role");
    gone(&policies(&t), name).await;
    gone(&bindings(&t), name).await;
    gone(&t.rules(), "guarded").await;
}

#[tokio::test]
async fn a_rule_that_changes_its_access_keeps_no_object_of_the_earlier_access() {
    let t = Fixture::new("switched").await;
    let grants: Api<ClusterRoleBinding> = Api::all(t.client.clone());
    let (as_node, as_account) = (t.probing_rule(), without_impersonation(&t));
    let impersonating = ReporterNames::of(&reporter_set(&as_node));
    let limited = ReporterNames::of(&reporter_set(&as_account));
    t.apply(&as_node).await;
    eventually(&grants, &impersonating.impersonator, |_| true).await;
    t.apply(&as_account).await;
    eventually(&grants, &limited.status_updater, |_| true).await;
    gone(&grants, &impersonating.impersonator).await;
    gone(&roles(&t), &impersonating.status_updater).await;
    gone(&daemon_sets(&t), &impersonating.set).await;
    t.apply(&as_node).await;
    eventually(&grants, &impersonating.impersonator, |_| true).await;
    gone(&roles(&t), &limited.status_updater).await;
    // The operator waits until all API servers have the change.
    let policy = policies(&t).get_opt(&limited.policy).await.unwrap();
    assert!(policy.is_some(), "the policy outlives the grant");
    gone(&policies(&t), &limited.policy).await;
    gone(&bindings(&t), &limited.policy).await;
}

#[tokio::test]
async fn a_rule_that_exceeds_the_allowances_has_no_reporters_and_reports_the_reason() {
    let t = Fixture::new("disallowed").await;
    let mut rule = t.probing_rule();
    let names = ReporterNames::of(&reporter_set(&rule));
    rule["spec"]["probes"][0] =
        json!({"conditionType": "example.com/Ready", "exec": {"command": ["id"]}});
    t.apply(&rule).await;
    let refused = eventually(&t.rules(), "disallowed", |rule| trouble(rule).is_some()).await;
    let (reason, message) = trouble(&refused).unwrap();
    assert_eq!(reason, "NotAllowed");
    assert!(message.contains("--allow-exec-probes"), "{message}");
    assert!(daemon_sets(&t).get_opt(&names.set).await.unwrap().is_none());
    // The flags of these tests' operator allow this probe.
    rule["spec"]["probes"][0] =
        json!({"conditionType": "example.com/Ready", "file": {"path": "/run/it/ready"}});
    t.apply(&rule).await;
    eventually(&daemon_sets(&t), &names.set, |_| true).await;
    // The reporters of a rule are deleted when it exceeds the allowances.
    rule["spec"]["probes"][0] =
        json!({"conditionType": "example.com/Ready", "file": {"path": "/etc/shadow"}});
    t.apply(&rule).await;
    gone(&daemon_sets(&t), &names.set).await;
    gone(&roles(&t), &names.impersonator).await;
}

#[tokio::test]
async fn the_guard_follows_the_rules_and_is_repaired() {
    let t = Fixture::new("guard").await;
    let types = |policy: &ValidatingAdmissionPolicy| {
        policy.spec.as_ref().unwrap().variables.as_ref().unwrap()[0].expression.clone()
    };
    let mut rule = t.probing_rule();
    rule["spec"]["conditions"][0]["type"] = json!("example.com/Guarded");
    rule["spec"]["probes"][0]["conditionType"] = json!("example.com/Guarded");
    let set = reporter_set(&rule);
    let before = config_maps(&t).list_metadata(&ListParams::default()).await.unwrap();
    t.apply(&rule).await;
    // Pods start at once, and run the probe when the guard admits its condition.
    let only = WatchParams::default().fields(&format!("metadata.name={set}"));
    let version = before.metadata.resource_version.unwrap();
    let mut versions = std::pin::pin!(config_maps(&t).watch(&only, &version).await.unwrap());
    for expected in [&[][..], &["guard"]] {
        let next = timeout(Duration::from_mins(1), versions.try_next()).await;
        let Ok(Ok(Some(WatchEvent::Added(map) | WatchEvent::Modified(map)))) = next else {
            panic!("{next:?}")
        };
        assert_eq!(configured(&map), expected);
    }
    assert!(daemon_sets(&t).get_opt(&set).await.unwrap().is_some());
    let policy = policies(&t).get("nrr-guard-impersonated").await.unwrap();
    assert!(types(&policy).contains(r#""example.com/Guarded""#), "{}", types(&policy));

    let hole = json!({"spec": {"validations": [{"expression": "true"}]}});
    let merge = Patch::Merge(&hole);
    policies(&t).patch("nrr-guard-records", &PatchParams::default(), &merge).await.unwrap();
    let sound = |policy: &ValidatingAdmissionPolicy| {
        let validations = policy.spec.as_ref().unwrap().validations.as_ref().unwrap();
        validations[0].expression != "true"
    };
    eventually(&policies(&t), "nrr-guard-records", sound).await;
    let uid = bindings(&t).get("nrr-guard-impersonated").await.unwrap().metadata.uid;
    bindings(&t).delete("nrr-guard-impersonated", &DeleteParams::default()).await.unwrap();
    eventually(&bindings(&t), "nrr-guard-impersonated", |b| b.metadata.uid != uid).await;

    t.delete_rule("guard").await;
    let without = |policy: &_| !types(policy).contains("example.com/Guarded");
    eventually(&policies(&t), "nrr-guard-impersonated", without).await;
}

#[tokio::test]
async fn a_refused_rule_does_not_disturb_the_others_of_its_set() {
    let t = Fixture::new("elder").await;
    let set = reporter_set(&t.probing_rule());
    let mut refused = t.probing_rule();
    refused["spec"]["probes"][0] =
        json!({"conditionType": "example.com/Ready", "exec": {"command": ["id"]}});
    t.apply(&refused).await;
    eventually(&t.rules(), "elder", |rule| trouble(rule).is_some()).await;
    // Creation times are in whole seconds. Of two rules of the same second, the one whose name sorts first counts as
    // older.
    let mut younger = t.probing_rule();
    younger["metadata"]["name"] = json!("elder-2");
    t.apply(&younger).await;
    let has = |rules: &'static [&str]| move |map: &ConfigMap| configured(map) == rules;
    eventually(&config_maps(&t), &set, has(&["elder-2"])).await;
    let daemon_set = eventually(&daemon_sets(&t), &set, |_| true).await;
    // The older rule's reporters write the condition as soon as they are allowed to, in the same pods.
    t.apply(&t.probing_rule()).await;
    eventually(&config_maps(&t), &set, has(&["elder", "elder-2"])).await;
    t.apply(&refused).await;
    eventually(&config_maps(&t), &set, has(&["elder-2"])).await;
    let later = daemon_sets(&t).get(&set).await.unwrap();
    assert_eq!(later.metadata.uid, daemon_set.metadata.uid);
}
