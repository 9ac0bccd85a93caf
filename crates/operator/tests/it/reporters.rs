//! The objects that the operator generates for rules with probes.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use node_readiness_api::{NodeReadinessRule, NodeReadinessRuleStatus};
use node_readiness_engine::reporter::ReporterNames;
use serde_json::{Value, json};

use crate::harness::{
    Fixture, REPORTERS, configured, event_of, eventually, gone, own_rules, poll, reporter_set,
    warned,
};

struct Generated {
    service_accounts: Api<ServiceAccount>,
    config_maps: Api<ConfigMap>,
    daemon_sets: Api<DaemonSet>,
    config_roles: Api<Role>,
    config_bindings: Api<RoleBinding>,
    roles: Api<ClusterRole>,
    bindings: Api<ClusterRoleBinding>,
}

impl Generated {
    fn of(t: &Fixture) -> Self {
        Self {
            service_accounts: Api::namespaced(t.client.clone(), REPORTERS),
            config_maps: Api::namespaced(t.client.clone(), REPORTERS),
            daemon_sets: Api::namespaced(t.client.clone(), REPORTERS),
            config_roles: Api::namespaced(t.client.clone(), REPORTERS),
            config_bindings: Api::namespaced(t.client.clone(), REPORTERS),
            roles: Api::all(t.client.clone()),
            bindings: Api::all(t.client.clone()),
        }
    }
}

/// Returns the names of the objects that are generated for a rule.
fn names(rule: &Value) -> ReporterNames {
    ReporterNames::of(&reporter_set(rule))
}

fn assert_owned<K: Resource>(object: &K, rule_uids: &[&str]) {
    let owners = object.meta().owner_references.as_ref().unwrap();
    assert_eq!(owners.iter().map(|owner| owner.uid.as_str()).collect::<Vec<_>>(), rule_uids);
    assert!(owners.iter().all(|owner| owner.controller != Some(true)));
}

#[tokio::test]
async fn all_objects_of_a_reporter_set_are_generated_and_owned_by_its_rules() {
    let t = Fixture::new("generated").await;
    let g = Generated::of(&t);
    let probing = t.probing_rule();
    let names = names(&probing);
    let uid = t.apply(&probing).await.metadata.uid.unwrap();
    let uid = [uid.as_str()];
    let daemon_set = eventually(&g.daemon_sets, &names.set, |_| true).await;
    assert_owned(&daemon_set, &uid);
    // The DaemonSet is created last, after all objects that its pods need.
    assert_owned(&g.service_accounts.get(&names.set).await.unwrap(), &uid);
    let is_configured = |map: &ConfigMap| configured(map) == ["generated"];
    let config = eventually(&g.config_maps, &names.set, is_configured).await;
    assert_owned(&config, &uid);
    let rules = serde_json::to_value(own_rules(&config)).unwrap();
    assert_eq!(rules[0]["probes"][0]["httpGet"]["path"], "/readiness");
    let role = g.config_roles.get(&names.set).await.unwrap();
    assert_owned(&role, &uid);
    let expected = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"],
        "resourceNames": [names.set]}]);
    assert_eq!(serde_json::to_value(role.rules).unwrap(), expected);
    let binding = g.config_bindings.get(&names.set).await.unwrap();
    assert_owned(&binding, &uid);
    assert_eq!(binding.subjects.unwrap()[0].name, names.set);
    let verbs = [
        (
            &names.impersonator,
            json!([{
                "apiGroups": ["authentication.k8s.io"],
                "resources": ["nodes"],
                "verbs": ["impersonate:associated-node"],
            }]),
        ),
        (
            &names.status_updater,
            json!([
                {"apiGroups": [""], "resources": ["nodes"], "verbs": [
                    "impersonate-on:associated-node:get", "impersonate-on:associated-node:watch",
                ]},
                {"apiGroups": [""], "resources": ["nodes/status"],
                 "verbs": ["impersonate-on:associated-node:update"]},
            ]),
        ),
    ];
    for (name, rules) in verbs {
        let role = g.roles.get(name).await.unwrap();
        assert_owned(&role, &uid);
        assert_eq!(serde_json::to_value(role.rules).unwrap(), rules);
        let binding = g.bindings.get(name).await.unwrap();
        assert_owned(&binding, &uid);
        let subjects = binding.subjects.unwrap();
        assert_eq!(subjects.len(), 1);
        assert_eq!(subjects[0].name, names.set);
    }
    let daemon_set = format!("{REPORTERS}/{}", names.set);
    let status = t.expect_status("generated", |status| {
        status.reporter.as_ref().is_some_and(|reporter| reporter.daemon_set == daemon_set)
    });
    let conditions = status.await.status.unwrap().conditions;
    assert!(conditions.iter().any(|c| c.type_ == "ReporterReady"), "{conditions:?}");
}

#[tokio::test]
async fn rules_with_equal_pod_settings_share_one_set() {
    let t = Fixture::new("together").await;
    let g = Generated::of(&t);
    let mut rules = Vec::new();
    for number in 1..=3 {
        let mut rule = t.probing_rule();
        rule["metadata"]["name"] = json!(t.named(&number.to_string()));
        rule["spec"]["reporter"]["heartbeatSeconds"] = json!(100 * number);
        rules.push(rule);
    }
    let set = reporter_set(&rules[0]);
    let mut uids = Vec::new();
    for rule in &rules {
        uids.push(t.apply(rule).await.metadata.uid.unwrap());
    }
    let has = |rules: &'static [&str]| move |map: &ConfigMap| configured(map) == rules;
    eventually(&g.config_maps, &set, has(&["together-1", "together-2", "together-3"])).await;
    let owners = |number| {
        move |set: &DaemonSet| {
            set.metadata.owner_references.as_ref().is_some_and(|owners| owners.len() == number)
        }
    };
    let daemon_set = eventually(&g.daemon_sets, &set, owners(3)).await;
    assert_owned(&daemon_set, &uids.iter().map(String::as_str).collect::<Vec<_>>());
    let role = g.roles.get(&ReporterNames::of(&set).impersonator).await.unwrap();
    assert_eq!(role.metadata.owner_references, daemon_set.metadata.owner_references);

    // A rule that goes, or moves to another set, leaves the others and their pods alone.
    t.delete_rule("together-1").await;
    gone(&t.rules(), "together-1").await;
    rules[1]["spec"]["reporter"]["priorityClassName"] = json!("system-cluster-critical");
    t.apply(&rules[1]).await;
    eventually(&g.config_maps, &set, has(&["together-3"])).await;
    eventually(&g.config_maps, &reporter_set(&rules[1]), has(&["together-2"])).await;
    let later = eventually(&g.daemon_sets, &set, owners(1)).await;
    assert_eq!(later.metadata.uid, daemon_set.metadata.uid);
    assert_eq!(later.spec, daemon_set.spec);
    for rule in ["together-2", "together-3"] {
        t.delete_rule(rule).await;
        gone(&t.rules(), rule).await;
    }
    gone(&g.daemon_sets, &set).await;
    gone(&g.config_maps, &reporter_set(&rules[1])).await;
}

#[tokio::test]
async fn reporters_keep_their_configuration_of_a_suspended_rule_while_others_change() {
    let t = Fixture::new("paused").await;
    let g = Generated::of(&t);
    let mut rule = t.probing_rule();
    let set = reporter_set(&rule);
    t.apply(&rule).await;
    let port = |map: &ConfigMap, index: usize| -> Value {
        let rules = serde_json::to_value(own_rules(map)).unwrap();
        rules[index]["probes"][0]["httpGet"]["port"].clone()
    };
    eventually(&g.config_maps, &set, |map| port(map, 0) == 9099).await;
    rule["spec"]["suspend"] = json!(true);
    rule["spec"]["probes"][0]["httpGet"]["port"] = json!(1);
    t.apply(&rule).await;
    let mut other = t.probing_rule();
    other["metadata"]["name"] = json!("paused-2");
    t.apply(&other).await;
    let map = eventually(&g.config_maps, &set, |map| configured(map).len() == 2).await;
    assert_eq!((port(&map, 0), port(&map, 1)), (json!(9099), json!(9099)));
    // Without another rule in the set, nobody changes its objects, and the deleted rule leaves its configuration.
    t.delete_rule("paused-2").await;
    gone(&t.rules(), "paused-2").await;
    let map = eventually(&g.config_maps, &set, |map| configured(map) == ["paused"]).await;
    assert_eq!(port(&map, 0), 9099);
    rule["spec"]["suspend"] = json!(false);
    t.apply(&rule).await;
    eventually(&g.config_maps, &set, |map| port(map, 0) == 1).await;
    t.delete_rule("paused").await;
    gone(&g.daemon_sets, &set).await;
}

#[tokio::test]
async fn edited_and_deleted_objects_are_restored() {
    let t = Fixture::new("repaired").await;
    let g = Generated::of(&t);
    let names = names(&t.probing_rule());
    let (set, name) = (names.set.as_str(), names.status_updater.as_str());
    t.apply(&t.probing_rule()).await;
    eventually(&g.daemon_sets, set, |_| true).await;

    let wider = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    g.roles.patch(name, &PatchParams::default(), &Patch::Merge(&wider)).await.unwrap();
    eventually(&g.roles, name, |role| role.rules.as_ref().is_some_and(|rules| rules.len() == 2))
        .await;

    // Other clients may add a field, a label, or an item of a list with keys.
    let theirs = json!({
        "metadata": {"labels": {"team": "net"}},
        "spec": {"template": {"spec": {"containers": [{
            "name": "reporter", "image": "by-hand:1", "env": [{"name": "ADDED", "value": "by hand"}],
        }]}}},
    });
    let image = |set: &DaemonSet| {
        set.spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap()
    };
    let params = PatchParams::default();
    let patch = Patch::Strategic(&theirs);
    let edited = g.daemon_sets.patch(set, &params, &patch).await.unwrap();
    assert_eq!(image(&edited), "by-hand:1");
    let repaired = eventually(&g.daemon_sets, set, |live| image(live) != "by-hand:1").await;
    assert!(format!("{:?}", repaired.spec).contains("ADDED"));
    assert_eq!(repaired.metadata.labels.unwrap()["team"], "net");
    t.expect_status("repaired", |status| {
        let field = format!("env of DaemonSet {REPORTERS}/{set} differs from the generated value");
        status.conditions.iter().any(|c| c.type_ == "ReporterReady" && c.message.contains(&field))
    })
    .await;

    let uid = g.bindings.get(name).await.unwrap().metadata.uid;
    g.bindings.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&g.bindings, name, |binding| binding.metadata.uid != uid).await;

    let theirs = json!({"kind": "ServiceAccount", "name": "theirs", "namespace": REPORTERS});
    let added = json!([{"op": "add", "path": "/subjects/-", "value": theirs}]);
    let added = Patch::Json::<()>(serde_json::from_value(added).unwrap());
    g.config_bindings.patch(set, &PatchParams::default(), &added).await.unwrap();
    let own = |binding: &RoleBinding| binding.subjects.as_ref().is_some_and(|all| all.len() == 1);
    eventually(&g.config_bindings, set, own).await;

    let unlabelled = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    let merge = Patch::Merge(&unlabelled);
    g.config_maps.patch(set, &PatchParams::default(), &merge).await.unwrap();
    let labelled = |map: &ConfigMap| {
        let labels = map.metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key("app.kubernetes.io/managed-by"))
    };
    eventually(&g.config_maps, set, labelled).await;
}

/// Creates a policy that sets a CPU request and adds an annotation in the pod template of each DaemonSet whose name
/// begins like this, as policies of Kyverno and of platform teams do.
async fn mutate_daemon_sets(t: &Fixture, prefix: &str) {
    let name = t.named("policy");
    let mutation = "Object{spec: Object.spec{template: Object.spec.template{\
        metadata: Object.spec.template.metadata{annotations: {'policy': 'applied'}}, \
        spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{\
        name: 'reporter', resources: Object.spec.template.spec.containers.resources{\
        requests: {'cpu': '123m'}}}]}}}}";
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["daemonsets"]}]},
            "matchConditions": [{"name": "ours",
                "expression": format!("object.metadata.name.startsWith('{prefix}')")}],
            "mutations": [{"patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": mutation}}],
            "reinvocationPolicy": "Never",
        },
    });
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    let policies: Api<MutatingAdmissionPolicy> = Api::all(t.client.clone());
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(t.client.clone());
    let post = PostParams::default();
    policies.create(&post, &serde_json::from_value(policy).unwrap()).await.unwrap();
    bindings.create(&post, &serde_json::from_value(binding).unwrap()).await.unwrap();
    let labels = json!({"app": "try"});
    let attempt = json!({
        "metadata": {"name": format!("{prefix}-try")},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "reporter", "image": "a:1"}]}}},
    });
    let attempt = serde_json::from_value(attempt).unwrap();
    let sets: Api<DaemonSet> = Api::namespaced(t.client.clone(), REPORTERS);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let in_force = poll(async || {
        let made = sets.create(&dry_run, &attempt).await.unwrap();
        format!("{:?}", made.spec).contains("123m").then_some(())
    });
    in_force.await.expect("the policy takes effect");
}

#[tokio::test]
async fn changes_by_admission_are_accepted_and_named() {
    let t = Fixture::new("admitted").await;
    let g = Generated::of(&t);
    let set = reporter_set(&t.probing_rule());
    mutate_daemon_sets(&t, &set).await;
    t.apply(&t.probing_rule()).await;
    let field = format!(
        "resources.requests of DaemonSet {REPORTERS}/{set} differs from the generated value"
    );
    let named = |status: &NodeReadinessRuleStatus| {
        status.conditions.iter().any(|c| c.type_ == "ReporterReady" && c.message.contains(&field))
    };
    t.expect_status("admitted", named).await;
    let event = event_of(&t, "FieldManagerConflict", "NodeReadinessRule", "admitted").await;
    assert!(event.note.unwrap().contains(&field));
    let text = format!("{:?}", g.daemon_sets.get(&set).await.unwrap().spec.template);
    assert!(text.contains("123m") && text.contains("applied"));
    // The operator writes a status of the next generation after it has compared all objects again.
    let mut edited = t.probing_rule();
    edited["spec"]["dryRun"] = json!(true);
    let generation = t.apply(&edited).await.metadata.generation;
    t.expect_status("admitted", |status| status.observed_generation == generation).await;
    assert_eq!(g.daemon_sets.get(&set).await.unwrap().metadata.generation, Some(1));
}

#[tokio::test]
async fn an_object_that_another_client_changes_repeatedly_is_applied_with_backoff() {
    let t = Fixture::new("reverted").await;
    let g = Generated::of(&t);
    let set = reporter_set(&t.probing_rule());
    t.apply(&t.probing_rule()).await;
    let map = eventually(&g.config_maps, &set, |_| true).await;
    let theirs = Patch::Merge(json!({"data": {"config.json": "{}"}}));
    let mut changed = 0;
    let waits = poll(async || {
        let live = g.config_maps.get(&set).await.unwrap();
        if own_rules(&live) == own_rules(&map) {
            changed += 1;
            let params = PatchParams::default();
            g.config_maps.patch(&set, &params, &theirs).await.unwrap();
        }
        let status = t.rules().get("reverted").await.unwrap().status?;
        let reported = |c: &Condition| {
            c.reason == "ApplyFailed"
                && c.message.contains(&format!("of ConfigMap {REPORTERS}/{set} repeatedly"))
        };
        status.conditions.iter().any(reported).then_some(())
    });
    assert!(waits.await.is_some(), "the status does not report it; changed {changed} times");
    assert!((2..=5).contains(&changed), "changed {changed} times");
}

#[tokio::test]
async fn an_edited_probe_changes_the_configuration_and_a_mount_the_pods() {
    let t = Fixture::new("probe-edited").await;
    let g = Generated::of(&t);
    let mut rule = t.probing_rule();
    let set = reporter_set(&rule);
    t.apply(&rule).await;
    let before = eventually(&g.daemon_sets, &set, |_| true).await;
    rule["spec"]["probes"][0]["httpGet"]["port"] = json!(9100);
    t.apply(&rule).await;
    let config = |map: &ConfigMap| map.data.as_ref().unwrap()["config.json"].clone();
    eventually(&g.config_maps, &set, |map| config(map).contains("9100")).await;
    rule["spec"]["probes"][0] =
        json!({"conditionType": "example.com/Ready", "file": {"path": "/run/it/ready"}});
    t.apply(&rule).await;
    let mounts = |set: &DaemonSet| format!("{:?}", set.spec.template).contains("/host/run/it");
    let mounted = eventually(&g.daemon_sets, &set, mounts).await;
    assert_eq!(mounted.metadata.generation.unwrap(), before.metadata.generation.unwrap() + 1);
    // A mount that no probe needs any more is removed.
    t.apply(&t.probing_rule()).await;
    let after = eventually(&g.daemon_sets, &set, |set| !mounts(set)).await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.spec, before.spec);
}

#[tokio::test]
async fn all_generated_objects_are_deleted_with_the_last_probe() {
    let t = Fixture::new("last-probe").await;
    let g = Generated::of(&t);
    let names = names(&t.probing_rule());
    t.apply(&t.probing_rule()).await;
    eventually(&g.daemon_sets, &names.set, |_| true).await;
    t.apply(&t.rule()).await;
    gone(&g.daemon_sets, &names.set).await;
    gone(&g.config_maps, &names.set).await;
    gone(&g.config_roles, &names.set).await;
    gone(&g.config_bindings, &names.set).await;
    gone(&g.service_accounts, &names.set).await;
    for name in [&names.impersonator, &names.status_updater] {
        gone(&g.bindings, name).await;
        gone(&g.roles, name).await;
    }
}

#[tokio::test]
async fn all_generated_objects_are_deleted_with_the_rule() {
    let t = Fixture::new("collected").await;
    let g = Generated::of(&t);
    let names = names(&t.probing_rule());
    t.apply(&t.probing_rule()).await;
    eventually(&g.daemon_sets, &names.set, |_| true).await;
    t.delete_rule("collected").await;
    gone(&t.rules(), "collected").await;
    gone(&g.daemon_sets, &names.set).await;
    gone(&g.roles, &names.impersonator).await;
}

/// Returns the conflict that the status of a rule reports.
fn conflict(rule: &NodeReadinessRule) -> Option<String> {
    let conditions = &rule.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.reason == "ProbeConflict").map(|c| c.message.clone())
}

#[tokio::test]
async fn the_status_reports_which_conditions_an_older_rule_decides_and_where() {
    let t = Fixture::new("divided").await;
    let shared = t.node("shared", &Value::Null).await;
    t.node("alone", &Value::Null).await;
    let relabel = async |pool: Value| {
        let label = Patch::Merge(json!({"metadata": {"labels": {"pool": pool}}}));
        t.nodes().patch(&shared, &PatchParams::default(), &label).await.unwrap();
    };
    relabel(json!("divided")).await;
    let mut older = t.probing_rule();
    older["spec"]["nodeSelector"] = json!({"matchLabels": {"test": "divided", "pool": "divided"}});
    t.apply(&older).await;
    eventually(&t.rules(), "divided", |_| true).await;
    // Creation times are in whole seconds. Of two rules of the same second, the one whose name sorts first counts as
    // older.
    let mut younger = t.probing_rule();
    younger["metadata"]["name"] = json!("divided-2");
    t.apply(&younger).await;
    let reported = eventually(&t.rules(), "divided-2", |rule| conflict(rule).is_some()).await;
    let text = conflict(&reported).unwrap();
    assert!(
        text.contains("example.com/Ready by divided on 1 nodes (first divided-shared)"),
        "{text}"
    );
    assert!(conflict(&t.rules().get("divided").await.unwrap()).is_none());

    // The node leaves the older rule and comes back. Then the older rule goes.
    relabel(Value::Null).await;
    eventually(&t.rules(), "divided-2", |rule| conflict(rule).is_none()).await;
    relabel(json!("divided")).await;
    eventually(&t.rules(), "divided-2", |rule| conflict(rule).is_some()).await;
    t.delete_rule("divided").await;
    eventually(&t.rules(), "divided-2", |rule| conflict(rule).is_none()).await;
}

#[tokio::test]
async fn a_foreign_object_is_not_changed_and_is_reported_with_the_remedy() {
    let t = Fixture::new("foreign").await;
    let g = Generated::of(&t);
    let names = names(&t.probing_rule());
    let (map, role) = (names.set.as_str(), names.impersonator.as_str());
    let theirs = json!({"metadata": {"name": map}, "data": {"theirs": "1"}});
    let theirs = serde_json::from_value(theirs).unwrap();
    let map_before = g.config_maps.create(&PostParams::default(), &theirs).await.unwrap();
    let theirs = json!({"metadata": {"name": role, "labels": {
        "app.kubernetes.io/managed-by": "Helm"}}, "rules": []});
    let theirs = serde_json::from_value(theirs).unwrap();
    let role_before = g.roles.create(&PostParams::default(), &theirs).await.unwrap();

    let mut probed = t.probing_rule();
    probed["metadata"]["name"] = json!("foreign-1");
    t.apply(&probed).await;
    let reports = |object: String| {
        move |status: &NodeReadinessRuleStatus| {
            status.conditions.iter().any(|c| {
                (c.type_.as_str(), c.status.as_str()) == ("ReporterReady", "False")
                    && c.reason == "NameTaken"
                    && c.message.starts_with(&object)
                    && c.message.contains("delete or rename it")
            })
        }
    };
    t.expect_status("foreign-1", reports(format!("ClusterRole {role} is managed by Helm"))).await;
    warned(&t, "ApplyReportersFailed").await;
    assert_eq!(g.roles.get(role).await.unwrap(), role_before);

    g.roles.delete(role, &DeleteParams::default()).await.unwrap();
    t.expect_status("foreign-1", reports(format!("ConfigMap {REPORTERS}/{map} is not one of")))
        .await;
    assert_eq!(g.config_maps.get(map).await.unwrap(), map_before);
    assert!(g.daemon_sets.get_opt(map).await.unwrap().is_none());

    g.config_maps.delete(map, &DeleteParams::default()).await.unwrap();
    eventually(&g.daemon_sets, map, |_| true).await;
}

#[tokio::test]
async fn a_recreated_rule_owns_its_objects() {
    let t = Fixture::new("renewed").await;
    let g = Generated::of(&t);
    let set = reporter_set(&t.probing_rule());
    let first = t.apply(&t.probing_rule()).await;
    eventually(&g.daemon_sets, &set, |_| true).await;
    t.delete_rule("renewed").await;
    gone(&t.rules(), "renewed").await;
    let second = t.apply(&t.probing_rule()).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    let uid = second.metadata.uid.unwrap();
    let of_second = |set: &DaemonSet| set.metadata.owner_references.as_ref().unwrap()[0].uid == uid;
    eventually(&g.daemon_sets, &set, of_second).await;
}
