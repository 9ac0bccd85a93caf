//! The objects that the operator generates for a rule with probes.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use node_readiness_api::{NodeReadinessRule, NodeReadinessRuleStatus};
use serde_json::{Value, json};

use crate::harness::{Fixture, REPORTERS, event_of, eventually, gone, poll, warned};

struct Generated {
    service_accounts: Api<ServiceAccount>,
    config_maps: Api<ConfigMap>,
    daemon_sets: Api<DaemonSet>,
    roles: Api<ClusterRole>,
    bindings: Api<ClusterRoleBinding>,
}

impl Generated {
    fn of(t: &Fixture) -> Self {
        Self {
            service_accounts: Api::namespaced(t.client.clone(), REPORTERS),
            config_maps: Api::namespaced(t.client.clone(), REPORTERS),
            daemon_sets: Api::namespaced(t.client.clone(), REPORTERS),
            roles: Api::all(t.client.clone()),
            bindings: Api::all(t.client.clone()),
        }
    }
}

fn probing(t: &Fixture) -> Value {
    let mut rule = t.rule();
    rule["spec"]["probes"] = json!([{
        "conditionType": "example.com/Ready",
        "httpGet": {"port": 9099, "path": "/readiness"},
    }]);
    rule
}

fn assert_owned<K: Resource>(object: &K, rule_uid: &str) {
    let owners = object.meta().owner_references.as_ref().unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].uid, rule_uid);
    assert_eq!(owners[0].controller, Some(true));
}

#[tokio::test]
async fn all_objects_of_reporters_are_generated_and_owned_by_the_rule() {
    let t = Fixture::new("generated").await;
    let g = Generated::of(&t);
    let uid = t.apply(&probing(&t)).await.metadata.uid.unwrap();
    let daemon_set = eventually(&g.daemon_sets, "reporter-generated", |_| true).await;
    assert_owned(&daemon_set, &uid);
    // The DaemonSet is created last, after all objects that its pods need.
    let account = g.service_accounts.get("reporter-generated").await.unwrap();
    assert_owned(&account, &uid);
    let config = g.config_maps.get("reporter-generated").await.unwrap();
    assert_owned(&config, &uid);
    let config: Value = serde_json::from_str(&config.data.unwrap()["config.json"]).unwrap();
    assert_eq!(config["probes"][0]["httpGet"]["path"], "/readiness");
    let verbs = [
        (
            "impersonator",
            json!([{
                "apiGroups": ["authentication.k8s.io"],
                "resources": ["nodes"],
                "verbs": ["impersonate:associated-node"],
            }]),
        ),
        (
            "status-updater",
            json!([
                {"apiGroups": [""], "resources": ["nodes"],
                 "verbs": ["impersonate-on:associated-node:get"]},
                {"apiGroups": [""], "resources": ["nodes/status"],
                 "verbs": ["impersonate-on:associated-node:update"]},
            ]),
        ),
    ];
    for (suffix, rules) in verbs {
        let name = format!("nrr-reporter-generated-{suffix}");
        let role = g.roles.get(&name).await.unwrap();
        assert_owned(&role, &uid);
        assert_eq!(serde_json::to_value(role.rules).unwrap(), rules);
        let binding = g.bindings.get(&name).await.unwrap();
        assert_owned(&binding, &uid);
        let subjects = binding.subjects.unwrap();
        assert_eq!(subjects.len(), 1);
        assert_eq!(subjects[0].name, "reporter-generated");
    }
    let status = t.expect_status("generated", |status| {
        status.reporter.as_ref().is_some_and(|r| r.daemon_set == "nrr-reporters/reporter-generated")
    });
    let conditions = status.await.status.unwrap().conditions;
    assert!(conditions.iter().any(|c| c.type_ == "ReporterReady"), "{conditions:?}");
}

#[tokio::test]
async fn edited_and_deleted_objects_are_restored() {
    let t = Fixture::new("repaired").await;
    let g = Generated::of(&t);
    t.apply(&probing(&t)).await;
    let name = "nrr-reporter-repaired-status-updater";
    eventually(&g.daemon_sets, "reporter-repaired", |_| true).await;

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
    let edited = g.daemon_sets.patch("reporter-repaired", &params, &patch).await.unwrap();
    assert_eq!(image(&edited), "by-hand:1");
    let repaired =
        eventually(&g.daemon_sets, "reporter-repaired", |set| image(set) != "by-hand:1").await;
    assert!(format!("{:?}", repaired.spec).contains("ADDED"));
    assert_eq!(repaired.metadata.labels.unwrap()["team"], "net");
    t.expect_status("repaired", |status| {
        let field =
            "env of DaemonSet nrr-reporters/reporter-repaired differs from the generated value";
        status.conditions.iter().any(|c| c.type_ == "ReporterReady" && c.message.contains(field))
    })
    .await;

    let uid = g.bindings.get(name).await.unwrap().metadata.uid;
    g.bindings.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&g.bindings, name, |binding| binding.metadata.uid != uid).await;

    let unlabelled = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    let merge = Patch::Merge(&unlabelled);
    g.config_maps.patch("reporter-repaired", &PatchParams::default(), &merge).await.unwrap();
    let labelled = |map: &ConfigMap| {
        let labels = map.metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key("app.kubernetes.io/managed-by"))
    };
    eventually(&g.config_maps, "reporter-repaired", labelled).await;
}

/// Creates a policy that sets a CPU request and adds an annotation in the pod template of each DaemonSet with this name
/// prefix, as policies of Kyverno and of platform teams do.
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
    mutate_daemon_sets(&t, "reporter-admitted").await;
    t.apply(&probing(&t)).await;
    let field = "resources.requests of DaemonSet nrr-reporters/reporter-admitted differs from the \
                 generated value";
    let named = |status: &NodeReadinessRuleStatus| {
        status.conditions.iter().any(|c| c.type_ == "ReporterReady" && c.message.contains(field))
    };
    t.expect_status("admitted", named).await;
    let event = event_of(&t, "FieldManagerConflict", "NodeReadinessRule", "admitted").await;
    assert!(event.note.unwrap().contains(field));
    let text = |set: &DaemonSet| format!("{:?}", set.spec.template);
    let set = g.daemon_sets.get("reporter-admitted").await.unwrap();
    assert!(text(&set).contains("123m") && text(&set).contains("applied"));
    // The operator writes a status of the next generation after it has compared all objects again.
    let mut edited = probing(&t);
    edited["spec"]["dryRun"] = json!(true);
    let generation = t.apply(&edited).await.metadata.generation;
    t.expect_status("admitted", |status| status.observed_generation == generation).await;
    assert_eq!(g.daemon_sets.get("reporter-admitted").await.unwrap().metadata.generation, Some(1));
}

#[tokio::test]
async fn an_object_that_another_client_changes_repeatedly_is_applied_with_backoff() {
    let t = Fixture::new("reverted").await;
    let g = Generated::of(&t);
    t.apply(&probing(&t)).await;
    let map = eventually(&g.config_maps, "reporter-reverted", |_| true).await;
    let theirs = Patch::Merge(json!({"data": {"config.json": "{}"}}));
    let mut changed = 0;
    let waits = poll(async || {
        let live = g.config_maps.get("reporter-reverted").await.unwrap();
        if live.data == map.data {
            changed += 1;
            let params = PatchParams::default();
            g.config_maps.patch("reporter-reverted", &params, &theirs).await.unwrap();
        }
        let status = t.rules().get("reverted").await.unwrap().status?;
        let reported = |c: &Condition| {
            c.reason == "ApplyFailed"
                && c.message.contains("of ConfigMap nrr-reporters/reporter-reverted repeatedly")
        };
        status.conditions.iter().any(reported).then_some(())
    });
    assert!(waits.await.is_some(), "the status does not report it; changed {changed} times");
    assert!((2..=5).contains(&changed), "changed {changed} times");
}

#[tokio::test]
async fn pods_are_replaced_when_their_configuration_changes() {
    let t = Fixture::new("rolled").await;
    let g = Generated::of(&t);
    t.apply(&probing(&t)).await;
    let before = eventually(&g.daemon_sets, "reporter-rolled", |_| true).await;
    let mut rule = probing(&t);
    rule["spec"]["probes"][0]["httpGet"]["port"] = json!(9100);
    t.apply(&rule).await;
    let template = |set: &DaemonSet| set.spec.template.clone();
    eventually(&g.daemon_sets, "reporter-rolled", |set| template(set) != template(&before)).await;
}

#[tokio::test]
async fn all_generated_objects_are_deleted_with_the_last_probe() {
    let t = Fixture::new("unprobed").await;
    let g = Generated::of(&t);
    t.apply(&probing(&t)).await;
    eventually(&g.daemon_sets, "reporter-unprobed", |_| true).await;
    t.apply(&t.rule()).await;
    gone(&g.daemon_sets, "reporter-unprobed").await;
    gone(&g.config_maps, "reporter-unprobed").await;
    gone(&g.service_accounts, "reporter-unprobed").await;
    for suffix in ["impersonator", "status-updater"] {
        let name = format!("nrr-reporter-unprobed-{suffix}");
        gone(&g.bindings, &name).await;
        gone(&g.roles, &name).await;
    }
}

#[tokio::test]
async fn all_generated_objects_are_deleted_with_the_rule() {
    let t = Fixture::new("collected").await;
    let g = Generated::of(&t);
    t.apply(&probing(&t)).await;
    eventually(&g.daemon_sets, "reporter-collected", |_| true).await;
    t.delete_rule("collected").await;
    gone(&t.rules(), "collected").await;
    gone(&g.daemon_sets, "reporter-collected").await;
    gone(&g.roles, "nrr-reporter-collected-impersonator").await;
}

/// Returns the conflict that the status of a rule reports.
fn conflict(rule: &NodeReadinessRule) -> Option<String> {
    let conditions = &rule.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.reason == "ProbeConflict").map(|c| c.message.clone())
}

#[tokio::test]
async fn the_older_of_two_rules_that_probe_one_condition_writes_it() {
    let t = Fixture::new("contested").await;
    let g = Generated::of(&t);
    t.node("a", &Value::Null).await;
    t.apply(&probing(&t)).await;
    let older = eventually(&t.rules(), "contested", |_| true).await;
    eventually(&g.daemon_sets, "reporter-contested", |_| true).await;
    // Creation times are in whole seconds. Of two rules of the same second, the one whose name sorts first counts as
    // older.
    let mut younger = probing(&t);
    younger["metadata"]["name"] = json!("contested-2");
    t.apply(&younger).await;
    let reported = eventually(&t.rules(), "contested-2", |rule| conflict(rule).is_some()).await;
    assert!(
        conflict(&reported).unwrap().contains("older NodeReadinessRule contested "),
        "{reported:?}"
    );
    assert!(conflict(&older).is_none());
    assert!(g.daemon_sets.get_opt("reporter-contested-2").await.unwrap().is_none());
    // When the older rule is deleted, the younger one takes over.
    t.delete_rule("contested").await;
    eventually(&g.daemon_sets, "reporter-contested-2", |_| true).await;
    eventually(&t.rules(), "contested-2", |rule| conflict(rule).is_none()).await;
}

#[tokio::test]
async fn on_nodes_where_two_rules_probe_one_condition_only_the_older_rules_reporter_runs() {
    let t = Fixture::new("divided").await;
    let g = Generated::of(&t);
    let shared = t.node("shared", &Value::Null).await;
    for alone in ["alone-1", "alone-2"] {
        t.node(alone, &Value::Null).await;
    }
    let label = Patch::Merge(json!({"metadata": {"labels": {"pool": "divided"}}}));
    t.nodes().patch(&shared, &PatchParams::default(), &label).await.unwrap();

    let mut older = probing(&t);
    older["spec"]["nodeSelector"] = json!({"matchLabels": {"test": "divided", "pool": "divided"}});
    t.apply(&older).await;
    eventually(&g.daemon_sets, "reporter-divided", |_| true).await;
    let mut younger = probing(&t);
    younger["metadata"]["name"] = json!("divided-2");
    t.apply(&younger).await;
    // The DaemonSet controller counts the nodes on which a pod may run.
    let runs_on = |nodes: i32| {
        move |set: &DaemonSet| {
            set.status.as_ref().is_some_and(|s| {
                s.observed_generation == set.metadata.generation
                    && s.desired_number_scheduled == nodes
            })
        }
    };
    eventually(&g.daemon_sets, "reporter-divided", runs_on(1)).await;
    eventually(&g.daemon_sets, "reporter-divided-2", runs_on(2)).await;
    let counted = |rule: &NodeReadinessRule| {
        conflict(rule).is_some_and(|text| text.contains("of 2 reporters of this rule are ready"))
    };
    let reported = conflict(&eventually(&t.rules(), "divided-2", counted).await).unwrap();
    assert!(reported.contains("there only the older one's reporters write it"), "{reported}");
    assert!(conflict(&t.rules().get("divided").await.unwrap()).is_none());

    t.delete_rule("divided").await;
    eventually(&g.daemon_sets, "reporter-divided-2", runs_on(3)).await;
    eventually(&t.rules(), "divided-2", |rule| conflict(rule).is_none()).await;
}

#[tokio::test]
async fn a_foreign_object_is_not_changed_and_is_reported_with_the_remedy() {
    let t = Fixture::new("foreign").await;
    let g = Generated::of(&t);
    let (map, role) = ("reporter-foreign-1", "nrr-reporter-foreign-1-impersonator");
    let theirs = json!({"metadata": {"name": map}, "data": {"theirs": "1"}});
    let theirs = serde_json::from_value(theirs).unwrap();
    let map_before = g.config_maps.create(&PostParams::default(), &theirs).await.unwrap();
    let theirs = json!({"metadata": {"name": role, "labels": {
        "app.kubernetes.io/managed-by": "Helm"}}, "rules": []});
    let theirs = serde_json::from_value(theirs).unwrap();
    let role_before = g.roles.create(&PostParams::default(), &theirs).await.unwrap();

    let mut probed = probing(&t);
    probed["metadata"]["name"] = json!("foreign-1");
    t.apply(&probed).await;
    let reports = |object: String| {
        move |status: &NodeReadinessRuleStatus| {
            status.conditions.iter().any(|c| {
                (c.type_.as_str(), c.status.as_str()) == ("ReporterReady", "False")
                    && c.reason == "NameTaken"
                    && c.message.starts_with(&object)
                    && c.message.contains("delete it, or give the NodeReadinessRule another name")
            })
        }
    };
    t.expect_status("foreign-1", reports(format!("ClusterRole {role} is managed by Helm"))).await;
    warned(&t, "ApplyReportersFailed").await;
    assert_eq!(g.roles.get(role).await.unwrap(), role_before);

    g.roles.delete(role, &DeleteParams::default()).await.unwrap();
    t.expect_status("foreign-1", reports(format!("ConfigMap {REPORTERS}/{map} is not of this")))
        .await;
    assert_eq!(g.config_maps.get(map).await.unwrap(), map_before);
    assert!(g.daemon_sets.get_opt(map).await.unwrap().is_none());

    g.config_maps.delete(map, &DeleteParams::default()).await.unwrap();
    eventually(&g.daemon_sets, map, |_| true).await;
}

#[tokio::test]
async fn a_recreated_rule_gets_its_own_objects() {
    let t = Fixture::new("renewed").await;
    let g = Generated::of(&t);
    let first = t.apply(&probing(&t)).await;
    eventually(&g.daemon_sets, "reporter-renewed", |_| true).await;
    t.delete_rule("renewed").await;
    gone(&t.rules(), "renewed").await;
    let second = t.apply(&probing(&t)).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    let uid = second.metadata.uid.unwrap();
    let of_second = |set: &DaemonSet| set.metadata.owner_references.as_ref().unwrap()[0].uid == uid;
    eventually(&g.daemon_sets, "reporter-renewed", of_second).await;
}

#[tokio::test]
async fn a_field_that_is_no_longer_generated_is_removed() {
    let t = Fixture::new("dropped").await;
    let g = Generated::of(&t);
    let mut rule = probing(&t);
    rule["spec"]["reporter"] = json!({"podAnnotations": {"team": "net"}});
    t.apply(&rule).await;
    let annotated = |set: &DaemonSet| {
        let template = set.spec.template.metadata.as_ref();
        template.is_some_and(|meta| meta.annotations.as_ref().unwrap().contains_key("team"))
    };
    let before = eventually(&g.daemon_sets, "reporter-dropped", annotated).await;
    t.apply(&probing(&t)).await;
    let after = eventually(&g.daemon_sets, "reporter-dropped", |set| !annotated(set)).await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
}
