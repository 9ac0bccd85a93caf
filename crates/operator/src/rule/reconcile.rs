//! Reconciles one rule: makes its status from the caches, and writes it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::reporter::{
    self, Overlaps, ReporterPod, most_frequent_trouble, overlaps,
};
use node_readiness_engine::signals::Signal;
use node_readiness_engine::status::{self, ReporterReport, Reporters, fold};
use node_readiness_engine::{Node, Rule};

use super::context::Context;
use super::error::RuleError;
use crate::clock;
use crate::reporters::REFRESH;

/// The outcome of a reconcile.
pub(super) struct Outcome {
    /// Whether the status was made, and the rule's reporters could be applied.
    pub(super) succeeded: bool,
    /// When to requeue the rule although nothing changes.
    pub(super) requeue_after: Option<Duration>,
}

/// Makes and writes the status.
pub(super) async fn reconcile(
    rule: &NodeReadinessRule,
    context: &Context,
) -> Result<Outcome, RuleError> {
    if let Some(wait) = context.status.rate_limited(rule) {
        return Ok(Outcome { succeeded: false, requeue_after: Some(wait) });
    }
    let previous = rule.status.as_ref();
    let compiled = match Rule::compile(rule) {
        Ok(compiled) => compiled,
        // An unreadable rule keeps its taints and its reporters.
        Err(rejection) => {
            let generation = rule.metadata.generation;
            let next = status::rejected(&rejection.to_string(), generation, previous, clock::now());
            let requeue_after = context.status.report(rule, &next).await?;
            return Ok(Outcome { succeeded: true, requeue_after });
        }
    };
    // The reporter controller has not handled this generation yet. Its next state triggers a reconcile.
    let Some(reporters) = context.reporters.borrow().of(rule).cloned() else {
        return Ok(Outcome { succeeded: false, requeue_after: None });
    };
    let covered = context.caches.nodes.state_filter(|node| compiled.covers(node));
    let OfNodes { reporters, unsupported, refresh } =
        of_nodes(rule, reporters, &covered, context).await;
    let overlaps = overlaps_of(&compiled, &covered, context);
    let report =
        ReporterReport { reporters: &reporters, overlaps: &overlaps, unsupported: &unsupported };
    let unwatched = unwatched(&compiled, context);
    let next = context.evaluations.read(|evaluations| {
        let entries = evaluations.of(&compiled.uid);
        let unwatched = unwatched.as_deref();
        fold(&compiled, covered.len(), entries, &report, unwatched, previous, clock::now())
    });
    let rate_limited = context.status.report(rule, &next).await?;
    Ok(Outcome {
        succeeded: !matches!(reporters, Reporters::Failed(_) | Reporters::NameTaken(_)),
        requeue_after: [rate_limited, refresh].into_iter().flatten().min(),
    })
}

/// The reporters on a rule's nodes.
struct OfNodes {
    /// The state of the reporters, with counts.
    reporters: Reporters,
    /// The nodes on which no reporter can start, each with the reason. None of them has a reporter.
    unsupported: Vec<(String, String)>,
    /// When the reason why pods are not created is read again.
    refresh: Option<Duration>,
}

/// Counts the reporters on the nodes that a rule covers. Those of the same set on other nodes do not concern it.
async fn of_nodes(
    rule: &NodeReadinessRule,
    mut reporters: Reporters,
    covered: &[Arc<Node>],
    context: &Context,
) -> OfNodes {
    let Reporters::Applied { status, trouble, .. } = &mut reporters else {
        return OfNodes { reporters, unsupported: Vec::new(), refresh: None };
    };
    let (namespace, set) = status.daemon_set.split_once('/').unwrap_or_default();
    let names: HashSet<_> = covered.iter().map(|node| node.name()).collect();
    let is_here = |pod: &ReporterPod| {
        pod.set.as_deref() == Some(set)
            && pod.node.as_deref().is_some_and(|node| names.contains(node))
    };
    let pods = context.caches.pods.state_filter(is_here);
    let options = rule.spec.reporter.clone().unwrap_or_default();
    let obstacles = covered
        .iter()
        .filter_map(|node| Some((node.name().to_owned(), reporter::obstacle(node, &options)?)));
    let mut unsupported: BTreeMap<String, String> = obstacles.collect();
    for pod in &pods {
        pod.node.as_deref().and_then(|node| unsupported.remove(node));
    }
    let ready: HashSet<_> =
        pods.iter().filter(|pod| pod.ready).filter_map(|pod| pod.node.as_deref()).collect();
    let desired = covered.len() - unsupported.len();
    let (ready, here) = (ready.len(), pods.len());
    let daemon_set = ObjectRef::new(set).within(namespace);
    status.desired = saturated(desired);
    status.ready = saturated(ready);
    let mut refresh = None;
    if ready < desired {
        *trouble = most_frequent_trouble(pods.iter().map(AsRef::as_ref));
        let daemon_set = context.caches.owned.daemon_sets.get(&daemon_set);
        if let (None, Some(daemon_set), true) = (&trouble, daemon_set, here < desired) {
            *trouble = context.creation_failures.of(&daemon_set).await;
            refresh = Some(REFRESH);
        }
    }
    OfNodes { reporters, unsupported: unsupported.into_iter().collect(), refresh }
}

fn saturated(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Returns why the operator cannot watch what a rule requires.
fn unwatched(rule: &Rule, context: &Context) -> Option<String> {
    let failures = context.signal_failures.borrow();
    let mut sources = rule.signals.iter().filter_map(Signal::source);
    sources.find_map(|source| {
        let cause = failures.get(&source)?;
        Some(format!("{source} cannot be watched: {cause}"))
    })
}

/// Returns where older rules that have reporters decide the rule's conditions.
fn overlaps_of(rule: &Rule, covered: &[Arc<Node>], context: &Context) -> Overlaps {
    let Some(rules) = context.caches.rule_sets.borrow().clone() else { return Overlaps::new() };
    let states = context.reporters.borrow();
    let others = rules.iter().filter(|other| states.has_reporters(&other.uid));
    overlaps(rule, others, covered)
}
