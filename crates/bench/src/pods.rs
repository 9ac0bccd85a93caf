//! Pods that rules require, as they are made here: one on each node for each rule.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use node_readiness_engine::Node;
use node_readiness_engine::signals::{PodSource, SignalEvent, SignalPod, Signals, Source};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::fixture::{self, Workload, each};
use crate::phases::Stage;

/// The namespace of these pods.
pub(crate) const NAMESPACE: &str = "bench";

/// The label that names the rule.
const LABEL: &str = "bench-rule";

/// Returns what a rule requires.
pub(crate) fn required(rule: usize) -> Value {
    let selector = json!({"matchLabels": {LABEL: rule.to_string()}});
    json!([{"name": format!("agent-{rule}"), "namespace": NAMESPACE, "selector": selector}])
}

fn name(rule: usize, node: usize) -> String {
    format!("agent-{rule}-{node:05}")
}

/// Creates the pods of all rules on all nodes. They are not Ready.
pub(crate) async fn create(client: &Client, nodes: usize, rules: usize) -> anyhow::Result<()> {
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    let (api, params) = (Api::<Namespace>::all(client.clone()), PatchParams::apply("bench"));
    let applied =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace["metadata"]});
    api.patch(NAMESPACE, &params, &Patch::Apply(&applied)).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    each(0..nodes, async |node| {
        for rule in 0..rules {
            let pod = serde_json::from_value(pod(rule, node))?;
            api.create(&PostParams::default(), &pod).await?;
        }
        Ok(())
    })
    .await
}

/// A pod as large as those of usual agents.
fn pod(rule: usize, node: usize) -> Value {
    let variables: Vec<_> = (0..40)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(60)}))
        .collect();
    json!({
        "metadata": {"name": name(rule, node), "labels": {LABEL: rule.to_string()}},
        "spec": {
            "nodeName": fixture::name(node), "automountServiceAccountToken": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "agent", "image": "registry.example.com/agent:v1", "env": variables}],
        },
    })
}

/// Reports the pods of a node as kubelet does. They are Ready if `status` is True.
pub(crate) async fn report(
    client: &Client,
    node: usize,
    rules: usize,
    status: &str,
) -> anyhow::Result<()> {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), NAMESPACE);
    for rule in 0..rules {
        let patch = Patch::Strategic(json!({"status": state(rule, node, status)}));
        api.patch_status(&name(rule, node), &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

fn state(rule: usize, node: usize, status: &str) -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": status}],
        "containerStatuses": [{
            "name": "agent", "image": "registry.example.com/agent:v1", "imageID": "",
            "ready": status == "True", "restartCount": 0,
            "containerID": format!("containerd://{rule:032x}{node:032x}"),
        }],
    })
}

/// Returns what an operator observes if all pods have this status.
pub(crate) fn observed(nodes: &[Arc<Node>], rules: usize, status: &str) -> Signals {
    let mut signals = Signals::default();
    for rule in 0..rules {
        let source = Source::Pods(PodSource {
            namespace: NAMESPACE.to_owned(),
            selector: format!("{LABEL}={rule}"),
        });
        for number in 0..nodes.len() {
            let mut pod = pod(rule, number);
            pod["status"] = state(rule, number, status);
            let pod: SignalPod = serde_json::from_value(pod).expect("a pod as it is made here");
            signals.observe(&source, SignalEvent::Applied(&pod), 0);
        }
        signals.observe(&source, SignalEvent::ListEnds, 0);
    }
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
    let pods = u32::try_from(stage.nodes * stage.workload.rules)?;
    let more = u32::try_from(resident[1].saturating_sub(resident[0]))?;
    Ok(f64::from(more) * 1024.0 / f64::from(pods))
}
