//! The Pod Security level of the generated pods.
//!
//! The reporters' namespace is `privileged`, because by default reporters use the node's network, and only this
//! level of Pod Security allows that. If no rule needs the node's network or directories, an administrator can set
//! the strictest level, `restricted`. So the pods must need nothing else that this level forbids.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::harness::{Fixture, REPORTERS, eventually, reporter_set};

/// Returns the API server's answer to a pod of a rule with this probe in a `restricted` namespace.
async fn admission(
    t: &Fixture,
    suffix: &str,
    probe: Value,
    host_network: bool,
) -> kube::Result<Pod> {
    let mut rule = t.rule();
    let name = t.named(suffix);
    rule["metadata"]["name"] = name.as_str().into();
    rule["spec"]["nodeSelector"] = json!({"matchLabels": {"test": name}});
    rule["spec"]["probes"] = json!([probe]);
    rule["spec"]["reporter"] = json!({"hostNetwork": host_network, "podLabels": {"test": name}});
    t.apply(&rule).await;
    let daemon_sets: Api<DaemonSet> = Api::namespaced(t.client.clone(), REPORTERS);
    let generated = eventually(&daemon_sets, &reporter_set(&rule), |_| true).await;
    t.delete_rule(&name).await;

    let spec = generated.spec.template.spec.unwrap();
    let namespace = restricted(t, &name, spec.service_account_name.as_deref().unwrap()).await;
    let pod = json!({"metadata": {"name": "reporter"}, "spec": spec});
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pods: Api<Pod> = Api::namespaced(t.client.clone(), &namespace);
    pods.create(&dry_run, &serde_json::from_value(pod).unwrap()).await
}

/// Creates a namespace with that level, and a ServiceAccount, which every pod must have.
async fn restricted(t: &Fixture, name: &str, account: &str) -> String {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"metadata": {"name": name, "labels": labels}});
    let namespaces: Api<Namespace> = Api::all(t.client.clone());
    let created = serde_json::from_value(namespace).unwrap();
    namespaces.create(&PostParams::default(), &created).await.unwrap();
    let account = serde_json::from_value(json!({"metadata": {"name": account}})).unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(t.client.clone(), name);
    accounts.create(&PostParams::default(), &account).await.unwrap();
    name.to_owned()
}

fn tcp() -> Value {
    json!({"conditionType": "example.com/Ready", "tcpSocket": {"port": 9099}})
}

#[tokio::test]
async fn a_reporter_without_the_nodes_network_and_directories_passes_restricted() {
    let t = Fixture::new("security-own").await;
    let pod = admission(&t, "network", tcp(), false).await.unwrap();
    assert_eq!(pod.spec.unwrap().host_network, None);
}

#[tokio::test]
async fn the_nodes_network_and_directories_require_privileged() {
    let t = Fixture::new("security-host").await;
    let refused = admission(&t, "network", tcp(), true).await;
    assert_eq!(violated(refused), "host namespaces (hostNetwork=true)");

    let file = json!({"conditionType": "example.com/Ready", "file": {"path": "/run/it/ready"}});
    let refused = admission(&t, "path", file, false).await;
    let expected =
        "restricted volume types (volume \"host-0\" uses restricted volume type \"hostPath\")";
    assert_eq!(violated(refused), expected);
}

/// Returns the violations that the API server lists for the pod.
fn violated(answer: kube::Result<Pod>) -> String {
    let Err(kube::Error::Api(status)) = answer else { panic!("not refused: {answer:?}") };
    let (_, violated) = status.message.split_once("\"restricted:latest\": ").unwrap();
    violated.to_owned()
}
