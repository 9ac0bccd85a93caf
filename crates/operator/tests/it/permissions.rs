//! What the operator may do, and what becomes of what it may not.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_readiness_engine::rbac;
use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, kubeconfig, warned};
use crate::metrics::counted;

/// A client with what `config/` grants the operator.
async fn as_operator() -> Client {
    let file = Kubeconfig::read_from(kubeconfig()).unwrap();
    let mut config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let operator = "system:serviceaccount:nrr-system:nrr-controller-manager";
    config.auth_info.impersonate = Some(operator.to_owned());
    Client::try_from(config).unwrap()
}

/// Asks the API server to make a role with these rules, and not to keep it.
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

#[tokio::test]
async fn lesson_217_234_362_408_468_a_refused_write_is_told_and_tried_until_it_succeeds() {
    let t = Fixture::new("refusal").await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(t.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(t.client.clone());
    let policy = json!({
        "metadata": {"name": "refusal"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                                   "resources": ["nodes"], "operations": ["UPDATE"]}],
                "objectSelector": {"matchLabels": {"test": "refusal"}},
            },
            "validations": [{"expression": "false", "message": "not today"}],
        },
    });
    let binding = json!({
        "metadata": {"name": "refusal"},
        "spec": {"policyName": "refusal", "validationActions": ["Deny"]},
    });
    let params = PostParams::default();
    policies.create(&params, &serde_json::from_value(policy).unwrap()).await.unwrap();
    bindings.create(&params, &serde_json::from_value(binding).unwrap()).await.unwrap();
    let node = t.node("a", &Value::Null).await;
    t.await_refusal(&node, "not today").await;

    t.apply(&t.rule()).await;
    let rule = t.expect_status("refusal", |status| !status.failed_nodes.is_empty()).await;
    let status = rule.status.unwrap();
    assert_eq!(status.failed_nodes[0].node_name, node);
    assert!(status.failed_nodes[0].message.contains("not today"), "{status:?}");
    assert_eq!(status.nodes.unwrap().failed, 1);
    assert_eq!(status.nodes.unwrap().held, 0);
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert!(ready.message.contains("not today"), "{ready:?}");
    warned(&t, "NodeWriteFailed").await;
    let failures = r#"node_readiness_failures_total{rule="refusal",reason="AddTaintError"} "#;
    assert!(counted("refusal", failures).await >= 1);

    bindings.delete("refusal", &DeleteParams::default()).await.unwrap();
    policies.delete("refusal", &DeleteParams::default()).await.unwrap();
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    t.expect_status("refusal", |status| status.failed_nodes.is_empty()).await;
}
