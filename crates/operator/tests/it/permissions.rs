//! The operator's permissions, and its reaction to refused requests.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_readiness_engine::rbac;
use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, event_of, kubeconfig, poll, warned};
use crate::metrics::counted;

/// Returns a client with the permissions that `config/` grants the operator.
async fn as_operator() -> Client {
    let file = Kubeconfig::read_from(kubeconfig()).unwrap();
    let mut config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let operator = "system:serviceaccount:nrr-system:nrr-controller-manager";
    config.auth_info.impersonate = Some(operator.to_owned());
    Client::try_from(config).unwrap()
}

/// Creates a role with these rules as a dry run.
async fn grant(client: &Client, rules: Value) -> Result<(), kube::Error> {
    let role = json!({"metadata": {"name": "permissions"}, "rules": rules});
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let api: Api<ClusterRole> = Api::all(client.clone());
    api.create(&params, &serde_json::from_value(role).unwrap()).await.map(|_| ())
}

#[tokio::test]
async fn the_operator_can_grant_what_reporters_need_and_nothing_wider() {
    let _ = Fixture::new("permissions").await;
    let operator = as_operator().await;
    for needed in
        [rbac::impersonate_own_node(), rbac::update_own_status(), rbac::update_any_status()]
    {
        grant(&operator, serde_json::to_value(needed).unwrap()).await.unwrap();
    }
    let rule = |group: &str, resource: &str, verb: &str| json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
    for wider in [
        rule("authentication.k8s.io", "nodes", "impersonate:arbitrary-node"),
        rule("authentication.k8s.io", "users", "impersonate"),
        rule("", "nodes/status", "patch"),
        rule("", "nodes", "update"),
        rule("", "nodes", "delete"),
        rule("", "nodes/status", "impersonate-on:associated-node:patch"),
        rule("", "nodes/status", "impersonate-on:arbitrary-node:update"),
        rule("", "nodes", "impersonate-on:associated-node:list"),
        rule("", "secrets", "get"),
        rule("*", "*", "*"),
    ] {
        let refusal = grant(&operator, wider.clone()).await.expect_err(&wider.to_string());
        assert!(refusal.to_string().contains("is attempting to grant"), "{wider}: {refusal}");
    }
}

/// A policy that refuses changes of objects with a test's label.
struct Refusal {
    name: &'static str,
    resources: Value,
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
}

impl Refusal {
    fn of(t: &Fixture, name: &'static str, resources: Value) -> Self {
        let (policies, bindings) = (Api::all(t.client.clone()), Api::all(t.client.clone()));
        Self { name, resources, policies, bindings }
    }

    async fn begin(&self) {
        let Self { name, resources, policies, bindings } = self;
        let policy = json!({
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [resources],
                    "objectSelector": {"matchLabels": {"test": name}},
                },
                "validations": [{"expression": "false", "message": "not today"}],
            },
        });
        let binding = json!({
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        });
        let params = PostParams::default();
        policies.create(&params, &serde_json::from_value(policy).unwrap()).await.unwrap();
        bindings.create(&params, &serde_json::from_value(binding).unwrap()).await.unwrap();
    }

    async fn end(&self) {
        self.bindings.delete(self.name, &DeleteParams::default()).await.unwrap();
        self.policies.delete(self.name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_finalizer_is_reported_and_retried_until_it_succeeds() {
    let t = Fixture::new("unfinalized").await;
    let refusal = Refusal::of(
        &t,
        "unfinalized",
        json!({"apiGroups": ["readiness.node.x-k8s.io"],
        "apiVersions": ["v1alpha1"], "resources": ["nodereadinessrules"],
        "operations": ["UPDATE"]}),
    );
    refusal.begin().await;
    let mut rule = t.rule();
    rule["metadata"]["labels"] = json!({"test": "unfinalized"});
    // This rule shows whether the policy has taken effect.
    let mut other = rule.clone();
    other["metadata"]["name"] = json!(t.named("other"));
    t.apply(&other).await;
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let change = Patch::Merge(json!({"spec": {"suspend": true}}));
    let refused = poll(async || {
        let answer = t.rules().patch(&t.named("other"), &params, &change).await;
        answer.is_err_and(|error| error.to_string().contains("not today")).then_some(())
    });
    refused.await.expect("the policy takes effect");

    let late = t.named("late");
    rule["metadata"]["name"] = json!(late);
    t.apply(&rule).await;
    warned(&t, "CleanUpFailed").await;
    refusal.end().await;
    t.expect_status(&late, |status| !status.conditions.is_empty()).await;
}

#[tokio::test]
async fn lesson_217_234_362_408_468_a_refused_write_is_reported_and_retried_until_it_succeeds() {
    let t = Fixture::new("refusal").await;
    let refusal = Refusal::of(
        &t,
        "refusal",
        json!({"apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["nodes"], "operations": ["UPDATE"]}),
    );
    refusal.begin().await;
    let node = t.node("a", &Value::Null).await;
    t.await_refusal(&node, "not today").await;

    t.apply(&t.rule()).await;
    let rule = t.expect_status("refusal", |status| !status.failed_nodes.is_empty()).await;
    let status = rule.status.unwrap();
    assert_eq!(status.failed_nodes[0].node_name, node);
    assert!(status.failed_nodes[0].message.contains("not today"), "{status:?}");
    assert_eq!(status.nodes.unwrap().failed, 1);
    assert_eq!(status.nodes.unwrap().held, 0);
    let ready = status.conditions.iter().find(|condition| condition.type_ == "NodesReady").unwrap();
    assert!(ready.message.contains("not today"), "{ready:?}");
    warned(&t, "NodeWriteFailed").await;
    for (kind, name) in [("Node", node.as_str()), ("NodeReadinessRule", "refusal")] {
        let text = event_of(&t, "NodeWriteFailed", kind, name).await.note.unwrap();
        assert!(text.contains("not today"), "{text}");
    }
    let failures = r#"node_readiness_failures_total{rule="refusal",reason="AddTaintError"} "#;
    assert!(counted("refusal", failures).await >= 1);

    refusal.end().await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.expect_status("refusal", |status| status.failed_nodes.is_empty()).await;
}
