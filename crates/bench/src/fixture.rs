//! Nodes, conditions and rules as they are made here.

use std::sync::Arc;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::{Rule, RuleSet};
use serde_json::{Value, json};

use crate::pods;

/// How many requests a bare client has under way at a time.
pub(crate) const CONCURRENCY: usize = 32;

/// What the API server adds to a node by itself, mostly `managedFields`.
const ADDED: usize = 3 * 1024;

/// What rules require of nodes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Deserialize,
    serde::Serialize,
)]
pub(crate) enum SignalKind {
    /// Node conditions.
    #[default]
    Conditions,
    /// Ready pods.
    Pods,
}

/// The rules of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// How many there are.
    pub(crate) rules: usize,
    /// What each of them requires.
    pub(crate) signals: SignalKind,
}

impl Workload {
    /// Returns rules that require conditions.
    pub(crate) fn of_conditions(rules: usize) -> Self {
        Self { rules, signals: SignalKind::Conditions }
    }
}

/// Name of a node.
pub(crate) fn name(number: usize) -> String {
    format!("node-{number:05}")
}

/// Condition that a rule requires.
pub(crate) fn condition(rule: usize) -> String {
    format!("bench.example.com/Ready-{rule}")
}

/// Key of a rule's taint.
pub(crate) fn taint_key(rule: usize) -> String {
    format!("readiness.k8s.io/bench-{rule}")
}

/// A node as large as kubelets make them, which is mostly by the images that they have. Its conditions
/// are not met.
pub(crate) fn node(number: usize, rules: usize, bytes: usize) -> anyhow::Result<Node> {
    let name = name(number);
    let mut labels = json!({
        "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/instance-type": "m6i.2xlarge",
        "failure-domain.beta.kubernetes.io/region": "eu-central-1",
        "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "m6i.2xlarge",
        "node-role.kubernetes.io/worker": "",
        "topology.kubernetes.io/region": "eu-central-1",
    });
    labels["kubernetes.io/hostname"] = json!(name);
    labels["topology.kubernetes.io/zone"] = json!(format!("eu-central-1{}", number % 3));
    labels["bench"] = json!("node");
    let quantity = json!({"cpu": "8", "memory": "32586208Ki", "ephemeral-storage": "203056560Ki",
        "hugepages-1Gi": "0", "hugepages-2Mi": "0", "pods": "110"});
    let mut node = json!({
        "metadata": {"name": name, "labels": labels, "annotations": {
            "csi.volume.kubernetes.io/nodeid": format!("{{\"csi.example.com\":\"i-0{number:016x}\"}}"),
            "node.alpha.kubernetes.io/ttl": "0",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        }},
        "spec": {"providerID": format!("example:///eu-central-1/i-0{number:016x}")},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.{}.{}.{}",
                number / 65536, number / 256 % 256, number % 256)},
                {"type": "Hostname", "address": name}],
            "allocatable": quantity, "capacity": quantity,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux",
                "bootID": format!("b-{number:032x}"), "machineID": format!("{number:032x}"),
                "systemUUID": format!("s-{number:032x}"), "kernelVersion": "6.1.0-28-cloud-amd64",
                "osImage": "Debian GNU/Linux 12 (bookworm)", "kubeletVersion": "v1.37.2",
                "kubeProxyVersion": "", "containerRuntimeVersion": "containerd://2.1.4"},
            "conditions": conditions(rules, "False", Timestamp::now()),
            "images": [],
        },
    });
    let mut size = serde_json::to_string(&node)?.len() + ADDED;
    let mut images = Vec::new();
    while size < bytes {
        let digest = images.len() * 0x1_0001 + 0xabcd;
        let repository =
            format!("registry.example.com/team-{}/service-{}", digest % 7, images.len());
        let image = json!({"sizeBytes": 48_123_456 + digest, "names": [
            format!("{repository}@sha256:{digest:064x}"), format!("{repository}:v1.{}", digest % 97),
        ]});
        size += serde_json::to_string(&image)?.len() + 1;
        images.push(image);
    }
    node["status"]["images"] = json!(images);
    serde_json::from_value(node).context("a node as it is made here")
}

/// The conditions of all rules, and kubelet's.
fn conditions(rules: usize, status: &str, beat: Timestamp) -> Value {
    let kubelet = [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ];
    let mut all: Vec<Value> = kubelet
        .into_iter()
        .map(|(type_, status, reason, message)| {
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": beat, "lastTransitionTime": beat})
        })
        .collect();
    all.extend(own_conditions(rules, status, beat));
    Value::Array(all)
}

fn own_conditions(rules: usize, status: &str, beat: Timestamp) -> Vec<Value> {
    let one = |rule| {
        json!({"type": condition(rule), "status": status, "reason": "Bench",
            "message": "GET http://localhost:9099/readiness answered", "lastHeartbeatTime": beat,
            "lastTransitionTime": beat})
    };
    (0..rules).map(one).collect()
}

/// Does something for many numbers, as many at a time as a bare client does.
pub(crate) async fn each<F>(
    numbers: impl IntoIterator<Item = usize>,
    act: impl Fn(usize) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let acts = stream::iter(numbers).map(act).buffer_unordered(CONCURRENCY);
    acts.try_collect::<()>().await
}

/// Creates nodes, and the pods that the rules require.
pub(crate) async fn create_nodes(
    client: &Client,
    nodes: usize,
    workload: Workload,
    bytes: usize,
) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    each(0..nodes, async |number| {
        api.create(&PostParams::default(), &node(number, workload.rules, bytes)?).await?;
        Ok(())
    })
    .await?;
    match workload.signals {
        SignalKind::Conditions => Ok(()),
        SignalKind::Pods => pods::create(client, nodes).await,
    }
}

/// Deletes every node.
pub(crate) async fn delete_nodes(client: &Client, nodes: usize) -> anyhow::Result<()> {
    let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    each(0..nodes, async |number| {
        api.delete(&name(number), &DeleteParams::default()).await?;
        Ok(())
    })
    .await
}

/// Writes what all rules require on one node: met if `status` is True.
pub(crate) async fn report(
    client: &Client,
    number: usize,
    workload: Workload,
    status: &str,
) -> anyhow::Result<()> {
    match workload.signals {
        SignalKind::Conditions => report_conditions(client, number, workload.rules, status).await,
        SignalKind::Pods => pods::report(client, number, status).await,
    }
}

/// Writes the conditions of all rules on one node, as a reporter does.
pub(crate) async fn report_conditions(
    client: &Client,
    number: usize,
    rules: usize,
    status: &str,
) -> anyhow::Result<()> {
    let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    let conditions = own_conditions(rules, status, Timestamp::now());
    let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
    api.patch_status(&name(number), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Takes this project's record and taints off every node, and has no condition be met: where all
/// phases begin.
pub(crate) async fn reset_nodes(
    client: &Client,
    nodes: usize,
    workload: Workload,
) -> anyhow::Result<()> {
    let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    let bare = json!({
        "metadata": {"annotations": {node_readiness_api::CLAIMS_ANNOTATION: null}},
        "spec": {"taints": null},
    });
    each(0..nodes, async |number| {
        let (params, patch) = (PatchParams::default(), Patch::Merge(&bare));
        api.patch(&name(number), &params, &patch).await?;
        report(client, number, workload, "False").await
    })
    .await
}

/// A continuous rule for all nodes, with a requirement and a taint of its own.
pub(crate) fn rule(number: usize, signals: SignalKind) -> anyhow::Result<NodeReadinessRule> {
    let mut rule = json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": format!("bench-{number}")},
        "spec": {
            "nodeSelector": {"matchLabels": {"bench": "node"}},
            // Three heartbeats of a reporter, as a rule with a probe has it.
            "conditions": [{
                "type": condition(number), "requiredStatus": "True", "staleAfterSeconds": 900,
            }],
            "enforcementMode": "continuous",
            "taint": {"key": taint_key(number), "value": "pending", "effect": "NoSchedule"},
        },
    });
    if signals == SignalKind::Pods {
        rule["spec"]["conditions"] = json!([]);
        rule["spec"]["pods"] = pods::required();
    }
    Ok(serde_json::from_value(rule)?)
}

/// Creates or changes the rules.
pub(crate) async fn create_rules(client: &Client, workload: Workload) -> anyhow::Result<()> {
    let api: Api<NodeReadinessRule> = Api::all(client.clone());
    for number in 0..workload.rules {
        let params = PatchParams::apply("bench").force();
        let rule = rule(number, workload.signals)?;
        api.patch(&rule.name_any(), &params, &Patch::Apply(&rule)).await?;
    }
    Ok(())
}

/// The rules as the operator compiles them.
pub(crate) async fn read_rules(client: &Client) -> anyhow::Result<Arc<RuleSet>> {
    let api: Api<NodeReadinessRule> = Api::all(client.clone());
    let rules = api.list(&kube::api::ListParams::default()).await?;
    let rules = rules.items.iter().map(Rule::compile).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(RuleSet::new(rules, [])))
}

/// Bytes of the largest status among the rules, as JSON.
pub(crate) async fn status_bytes(client: &Client) -> anyhow::Result<usize> {
    let api: Api<NodeReadinessRule> = Api::all(client.clone());
    let rules = api.list(&kube::api::ListParams::default()).await?;
    let sizes = rules.items.iter().map(|rule| serde_json::to_vec(&rule.status).map(|s| s.len()));
    Ok(sizes.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0))
}

/// Bytes of a node, as the API server gives it as JSON.
pub(crate) async fn node_bytes(client: &Client) -> anyhow::Result<usize> {
    let request = kube::core::Request::new("/api/v1/nodes")
        .get(&name(0), &kube::api::GetParams::default())?;
    Ok(client.request_text(request).await?.len())
}
