//! Rules that require more than conditions: pods, drivers and resources, as objects of the API server.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::api::storage::v1::CSINode;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use node_readiness_api::{NodeReadinessRule, NodeReadinessRuleStatus, RequirementEvaluation};
use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, event_of, eventually};
use crate::restarts::Environment;

/// Returns this test's rule with this requirement in place of conditions.
fn requiring(t: &Fixture, field: &str, value: Value) -> Value {
    let mut rule = t.rule();
    rule["spec"].as_object_mut().unwrap().remove("conditions");
    rule["spec"][field] = value;
    rule
}

fn of_pods(t: &Fixture, app: &str) -> Value {
    let selector = json!({"matchLabels": {"app": app}});
    requiring(t, "pods", json!([{"name": "agent", "namespace": "default", "selector": selector}]))
}

fn pods(t: &Fixture, namespace: &str) -> Api<Pod> {
    Api::namespaced(t.client.clone(), namespace)
}

/// A pod on a node, without a kubelet that runs it.
pub struct TestPod<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub labels: Value,
    pub node: &'a str,
}

impl TestPod<'_> {
    pub async fn create(&self, t: &Fixture) {
        let Self { namespace, name, labels, node } = self;
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "nodeName": node, "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": "agent:1"}],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        pods(t, namespace).create(&PostParams::default(), &pod).await.unwrap();
    }

    /// Reports the pod as kubelet does.
    pub async fn report(&self, t: &Fixture, ready: &str, container: &str) {
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "c", "image": "agent:1", "imageID": "", "ready": ready == "True",
                "restartCount": 0, "containerID": format!("containerd://{container}"),
            }],
        }});
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&status));
        pods(t, self.namespace).patch_status(self.name, &params, &patch).await.unwrap();
    }

    async fn delete(&self, t: &Fixture) {
        pods(t, self.namespace).delete(self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// Registers these CSI drivers on a node.
pub async fn register_csi_drivers(t: &Fixture, node: &str, drivers: &[&str]) -> Api<CSINode> {
    let driver = |name: &&str| json!({"name": name, "nodeID": "i-1"});
    let drivers: Vec<_> = drivers.iter().map(driver).collect();
    let csi_node = json!({"metadata": {"name": node}, "spec": {"drivers": drivers}});
    let csi_nodes: Api<CSINode> = Api::all(t.client.clone());
    let csi_node = serde_json::from_value(csi_node).unwrap();
    csi_nodes.create(&PostParams::default(), &csi_node).await.unwrap();
    csi_nodes
}

/// Publishes a slice of a driver's pool of a node, of this number of slices.
pub async fn publish_slice(t: &Fixture, name: &str, driver: &str, node: &str, slices: u32) {
    let slice = json!({
        "metadata": {"name": name},
        "spec": {
            "driver": driver, "nodeName": node, "devices": [{"name": name}],
            "pool": {"name": node, "generation": 1, "resourceSliceCount": slices},
        },
    });
    let slice = serde_json::from_value(slice).unwrap();
    let slices: Api<ResourceSlice> = Api::all(t.client.clone());
    slices.create(&PostParams::default(), &slice).await.unwrap();
}

/// Sets the allocatable quantity of a resource on a node.
pub async fn allocate(t: &Fixture, node: &str, resource: &str, quantity: &str) {
    let quantities = json!({resource: quantity});
    let status = json!({"status": {"capacity": quantities, "allocatable": quantities}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
    t.nodes().patch_status(node, &params, &patch).await.unwrap();
}

fn results(status: &NodeReadinessRuleStatus) -> Option<&RequirementEvaluation> {
    status.node_evaluations.first()?.requirement_results.first()
}

fn message(rule: &NodeReadinessRule, type_: &str) -> Option<String> {
    let conditions = &rule.status.as_ref()?.conditions;
    let condition = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some(format!("{}: {}", condition.reason, condition.message))
}

#[tokio::test]
async fn a_node_is_held_while_its_pod_is_not_ready() {
    let t = Fixture::new("podded").await;
    let node = t.node("a", &Value::Null).await;
    t.apply(&of_pods(&t, "podded")).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    let unmet = "no Ready pod in default matches app=podded";
    let is_named = |status: &NodeReadinessRuleStatus| {
        results(status).is_some_and(|result| {
            (result.requirement.as_str(), result.met, result.message.as_str())
                == ("pods/agent", false, unmet)
        })
    };
    let rule = t.expect_status("podded", is_named).await;
    let nodes_ready = message(&rule, "NodesReady").unwrap();
    assert!(nodes_ready.contains(&format!("{node}: {unmet}")), "{nodes_ready}");

    let pod = |name, app: &str| {
        let labels = json!({"app": app});
        TestPod { namespace: "default", name, labels, node: &node }
    };
    let (agent, other) = (pod("podded-1", "podded"), pod("podded-2", "other"));
    agent.create(&t).await;
    agent.report(&t, "True", "1").await;
    t.expect_taints(&node, KEY, &[]).await;
    t.expect_status("podded", |status| results(status).is_some_and(|result| result.met)).await;
    agent.report(&t, "False", "1").await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    agent.report(&t, "True", "1").await;
    t.expect_taints(&node, KEY, &[]).await;
    // Pods of others do not matter.
    other.create(&t).await;
    other.report(&t, "True", "2").await;
    agent.delete(&t).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    // The rule may require other pods from now on.
    t.apply(&of_pods(&t, "other")).await;
    t.expect_taints(&node, KEY, &[]).await;
}

#[tokio::test]
async fn a_rebooted_node_is_held_until_its_pod_has_restarted() {
    let t = Fixture::new("pod-reboot").await;
    let node = t.node("a", &Value::Null).await;
    let boot = async |id: &str| {
        let patch = Patch::Merge(json!({"status": {"nodeInfo": {
            "bootID": id, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "",
            "osImage": "", "systemUUID": "",
        }}}));
        t.nodes().patch_status(&node, &PatchParams::default(), &patch).await.unwrap();
    };
    boot("one").await;
    let labels = json!({"app": "pod-reboot"});
    let pod = TestPod { namespace: "default", name: "pod-reboot-1", labels, node: &node };
    pod.create(&t).await;
    pod.report(&t, "True", "1").await;
    let mut rule = of_pods(&t, "pod-reboot");
    rule["spec"]["holdTimeout"] = json!({"seconds": 2});
    t.apply(&rule).await;
    t.expect_status("pod-reboot", |status| results(status).is_some_and(|result| result.met)).await;
    eventually(&t.nodes(), &node, |node| {
        let annotations = node.metadata.annotations.as_ref();
        annotations.is_some_and(|all| all.contains_key("readiness.k8s.io/boot-id"))
    })
    .await;
    // Containers that were first seen just before a reboot may have started after it.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    boot("two").await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    let overdue = event_of(&t, "NodeOverdue", "Node", &node).await.note.unwrap();
    assert!(overdue.contains("held for more than 2 s"), "{overdue}");
    let counts = |status: &NodeReadinessRuleStatus| {
        status.nodes.is_some_and(|nodes| (nodes.held, nodes.overdue) == (1, 1))
    };
    t.expect_status("pod-reboot", counts).await;
    pod.report(&t, "True", "2").await;
    t.expect_taints(&node, KEY, &[]).await;
}

#[tokio::test]
async fn a_node_needs_its_csi_driver() {
    let t = Fixture::new("csi").await;
    let node = t.node("a", &Value::Null).await;
    t.apply(&requiring(&t, "csiDrivers", json!(["ebs.csi.aws.com"]))).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    let csi_nodes = register_csi_drivers(&t, &node, &["ebs.csi.aws.com"]).await;
    t.expect_taints(&node, KEY, &[]).await;
    csi_nodes.delete(&node, &DeleteParams::default()).await.unwrap();
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
}

#[tokio::test]
async fn a_node_needs_all_slices_of_its_dra_driver() {
    let t = Fixture::new("dra").await;
    let node = t.node("a", &Value::Null).await;
    t.apply(&requiring(&t, "resourceDrivers", json!(["gpu.example.com"]))).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    for name in ["dra-1", "dra-2"] {
        t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
        publish_slice(&t, name, "gpu.example.com", &node, 2).await;
    }
    t.expect_taints(&node, KEY, &[]).await;
}

#[tokio::test]
async fn a_node_needs_its_resources_for_a_while() {
    let t = Fixture::new("gpus").await;
    let node = t.node("a", &Value::Null).await;
    let mut rule = requiring(&t, "resources", json!([{"name": "example.com/gpu", "minimum": 2}]));
    rule["spec"]["minReadySeconds"] = json!(2);
    t.apply(&rule).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    allocate(&t, &node, "example.com/gpu", "2").await;
    let waits = |rule: &NodeReadinessRule| {
        message(rule, "NodesReady")
            .is_some_and(|message| message.contains("has met the requirements for less than 2 s"))
    };
    eventually(&t.rules(), "gpus", waits).await;
    t.expect_taints(&node, KEY, &[]).await;
    allocate(&t, &node, "example.com/gpu", "1").await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
}

#[tokio::test]
async fn an_operator_without_pods_leaves_nodes_alone_and_reports_it() {
    let environment = Environment::new("without-pods", 37).await;
    environment.node("n").await;
    let selector = json!({"matchLabels": {"app": "agent"}});
    let mut rule = json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": "without-pods"},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": "restart"}},
            "pods": [{"name": "agent", "namespace": "default", "selector": selector}],
            "enforcementMode": "continuous",
            "taint": {"key": KEY, "effect": "NoSchedule"},
        },
    });
    // The node is older than the rule.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    environment.apply(&rule).await;
    let _operator =
        environment.operator_with(&["--reporter-image=reporter:1", "--watch-pods=false"]);
    let is_reported = |rule: &NodeReadinessRule| {
        message(rule, "Ready").is_some_and(|message| {
            message.starts_with("NotObserved: ") && message.contains("--watch-pods=false")
        })
    };
    eventually(&environment.rules(), "without-pods", is_reported).await;
    let node = environment.nodes().get("n").await.unwrap();
    assert!(node.spec.unwrap().taints.unwrap_or_default().iter().all(|taint| taint.key != KEY));
    // A requirement that can be observed decides.
    rule["spec"]["conditions"] = json!([{"type": "example.com/Ready", "requiredStatus": "True"}]);
    environment.apply(&rule).await;
    let is_held = |node: &k8s_openapi::api::core::v1::Node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == KEY))
    };
    eventually(&environment.nodes(), "n", is_held).await;
}
