//! The baseline: a bare client that only sends the patches.
//!
//! It sends the same patches as the operator, made before the clock starts, with the same kind of client, and
//! asks for the same small answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use node_readiness_api::{CLAIMS_ANNOTATION, CONTROLLER_NAME};
use node_readiness_engine::signals::Signals;
use node_readiness_engine::{Node, PlanContext, RuleSet, plan};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::fixture::{self, SignalKind, Workload, condition, each};
use crate::pods;
use crate::results::{Baseline, Curve};
use crate::watching::{Counts, Watching};

/// Taints all nodes, then flips all conditions and untaints them, and measures the time until the watch has
/// shown all of it, as for the operator. It starts with untainted nodes whose conditions are not met, and ends
/// with untainted nodes whose conditions are met.
pub(crate) async fn measure(
    environment: &Environment,
    watching: &Watching,
    rules: &RuleSet,
    workload: Workload,
) -> anyhow::Result<Baseline> {
    let nodes = watching.counts().nodes;
    environment.say(&format!(
        "baseline: a bare client taints {nodes} nodes, {} at a time",
        fixture::CONCURRENCY
    ));
    watching.take_notes();
    let patches = patches(watching, rules, workload, "False");
    let begun = Instant::now();
    each(0..nodes, async |n| send(environment, n, patches[n].as_ref()).await).await?;
    let done = watching.until(environment.progress(), "tainting", |c| c.tainted == nodes).await?;
    let taint_seconds = (done - begun).as_secs_f64();
    let taint_curve = curve(watching, begun, |counts| counts.tainted);

    environment.say("baseline: it flips all conditions and takes the taints off");
    let patches = self::patches(watching, rules, workload, "True");
    let begun = Instant::now();
    each(0..nodes, async |n| {
        fixture::report(&environment.administrator, n, workload, "True").await?;
        send(environment, n, patches[n].as_ref()).await
    })
    .await?;
    let done = watching.until(environment.progress(), "untainting", |c| c.clean == nodes).await?;
    let flip_seconds = (done - begun).as_secs_f64();
    let flip_curve = curve(watching, begun, |counts| counts.clean);
    environment.say(&format!(
        "baseline: {taint_seconds:.2} s to taint, {flip_seconds:.2} s to flip and untaint"
    ));
    Ok(Baseline { taint_seconds, flip_seconds, taint_curve, flip_curve })
}

/// Returns how many nodes were done over time, since `begun`. It takes the watch's records.
pub(crate) fn curve(watching: &Watching, begun: Instant, done: impl Fn(&Counts) -> usize) -> Curve {
    Curve::of(&watching.take_notes().curve, begun, done)
}

/// Returns the operator's patches for each node if its conditions or pods had this status.
fn patches(
    watching: &Watching,
    rules: &RuleSet,
    workload: Workload,
    status: &str,
) -> Vec<Option<json_patch::Patch>> {
    let nodes = watching.nodes();
    let signals = match workload.signals {
        SignalKind::Conditions => Signals::default(),
        SignalKind::Pods => pods::observed(nodes.len(), status),
    };
    let context = PlanContext::unobserved(Timestamp::now(), Duration::ZERO);
    let context = PlanContext { signals: &signals, ..context };
    nodes
        .iter()
        .map(|node| plan(&with_conditions(node, rules, status), rules, &context).patch)
        .collect()
}

/// Returns the node after its conditions were written.
fn with_conditions(node: &Node, rules: &RuleSet, status: &str) -> Node {
    let conditions: Vec<Value> = (0..rules.iter().count())
        .map(|rule| json!({"type": condition(rule), "status": status}))
        .collect();
    let annotations = match node.annotation(CLAIMS_ANNOTATION) {
        Some(record) => json!({CLAIMS_ANNOTATION: record}),
        None => json!({}),
    };
    let labels: BTreeMap<_, _> = node.labels().iter().collect();
    let node = json!({
        "metadata": {"name": node.name(), "uid": node.metadata.uid, "labels": labels,
            "annotations": annotations},
        "spec": {"taints": node.taints()},
        "status": {"conditions": conditions},
    });
    serde_json::from_value(node).expect("a node in its own form")
}

async fn send(
    environment: &Environment,
    number: usize,
    patch: Option<&json_patch::Patch>,
) -> anyhow::Result<()> {
    let Some(patch) = patch else { anyhow::bail!("nothing to do on node {number}") };
    let nodes: Api<Node> = Api::all(environment.client.clone());
    let params =
        PatchParams { field_manager: Some(CONTROLLER_NAME.into()), ..PatchParams::default() };
    nodes
        .patch_metadata(&fixture::name(number), &params, &Patch::Json::<()>(patch.clone()))
        .await?;
    Ok(())
}
