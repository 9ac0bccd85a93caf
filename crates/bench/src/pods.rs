//! Pods that the rule requires, as they are made here: one on each node.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use node_readiness_engine::signals::{PodSource, SignalEvent, SignalPod, Signals, Source};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::fixture::{self, Workload, each};
use crate::phases::Stage;

/// The namespace of these pods.
pub(crate) const NAMESPACE: &str = "bench";

/// The label of these pods, with its value.
const LABEL: (&str, &str) = ("app", "agent");

/// Returns what the rule requires.
pub(crate) fn required() -> Value {
    let (key, value) = LABEL;
    let selector = json!({"matchLabels": {key: value}});
    json!([{"name": "agent", "namespace": NAMESPACE, "selector": selector}])
}

fn name(node: usize) -> String {
    format!("agent-{node:05}")
}

/// Creates the pods of all nodes. They are not Ready.
pub(crate) async fn create(client: &Client, nodes: usize) -> anyhow::Result<()> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch(NAMESPACE, &PatchParams::apply("bench"), &Patch::Apply(&namespace)).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    each(0..nodes, async |node| {
        api.create(&PostParams::default(), &serde_json::from_value(pod(node))?).await?;
        Ok(())
    })
    .await
}

/// A pod as large as those of usual agents.
fn pod(node: usize) -> Value {
    let (key, value) = LABEL;
    let variables: Vec<_> = (0..40)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(60)}))
        .collect();
    json!({
        "metadata": {"name": name(node), "labels": {key: value}},
        "spec": {
            "nodeName": fixture::name(node), "automountServiceAccountToken": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "agent", "image": "registry.example.com/agent:v1", "env": variables}],
        },
    })
}

/// Reports the pod of a node as kubelet does. It is Ready if `status` is True.
pub(crate) async fn report(client: &Client, node: usize, status: &str) -> anyhow::Result<()> {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Strategic(json!({"status": state(node, status)}));
    api.patch_status(&name(node), &PatchParams::default(), &patch).await?;
    Ok(())
}

fn state(node: usize, status: &str) -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": status}],
        "containerStatuses": [{
            "name": "agent", "image": "registry.example.com/agent:v1", "imageID": "",
            "ready": status == "True", "restartCount": 0,
            "containerID": format!("containerd://{node:064x}"),
        }],
    })
}

/// Returns what an operator observes if all pods have this status.
pub(crate) fn observed(nodes: usize, status: &str) -> Signals {
    let (key, value) = LABEL;
    let (namespace, selector) = (NAMESPACE.to_owned(), format!("{key}={value}"));
    let source = Source::Pods(PodSource { namespace, selector });
    let mut signals = Signals::default();
    for node in 0..nodes {
        let mut pod = pod(node);
        pod["status"] = state(node, status);
        let pod: SignalPod = serde_json::from_value(pod).expect("a pod as it is made here");
        signals.observe(&source, SignalEvent::Applied(&pod), 0);
    }
    signals.observe(&source, SignalEvent::ListEnds, 0);
    signals
}

/// Measures the memory of an operator that watches these pods, beyond that of one with rules of conditions. Returns
/// bytes a pod.
pub(crate) async fn memory(environment: &Environment, stage: &Stage<'_>) -> anyhow::Result<f64> {
    environment.say("memory of pods: an operator without and one with them");
    let administrator = &environment.administrator;
    let mut resident = Vec::new();
    for workload in [Workload::of_conditions(stage.workload.rules), stage.workload] {
        fixture::create_rules(administrator, workload).await?;
        // An operator taints them only when it has observed what the rules require.
        fixture::reset_nodes(administrator, stage.nodes, workload).await?;
        stage.until("reset", |c| c.bare == stage.nodes && c.met == 0).await?;
        let operator = stage.start()?;
        stage.until("tainting", |c| c.tainted == stage.nodes).await?;
        stage.at_rest().await?;
        resident.push(operator.usage()?.resident);
        operator.stop()?;
    }
    let pods = u32::try_from(stage.nodes)?;
    let more = u32::try_from(resident[1].saturating_sub(resident[0]))?;
    Ok(f64::from(more) * 1024.0 / f64::from(pods))
}
