//! Reconciles one rule: generates its reporters, applies them, and writes the status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::Rule;
use node_readiness_engine::reporter::{
    self, Conflicts, MaxUnavailable, Refusal, ReporterNames, ReporterObjects, Share,
    most_frequent_trouble,
};
use node_readiness_engine::status::Reporters;

use super::context::Context;
use super::error::RuleError;
use super::status::Observed;
use crate::reporters::{ApplyError, GuardState, REFRESH, ReporterManager, Wait, apply};

/// The outcome of a reconcile.
pub(super) struct Outcome {
    /// Whether its reporters are in backoff.
    pub(super) backs_off: bool,
    /// When to requeue the rule although nothing changes.
    pub(super) requeue_after: Option<Duration>,
}

/// Generates and applies reporters, and writes the status.
pub(super) async fn reconcile(
    rule: &NodeReadinessRule,
    context: &Context,
) -> Result<Outcome, RuleError> {
    let Ok(compiled) = Rule::compile(rule) else {
        // An unreadable rule keeps its taints and its reporters.
        let status = &context.status;
        let again =
            status.report(rule, &Reporters::None, &Conflicts::new(), observed(context)).await?;
        return Ok(Outcome { backs_off: false, requeue_after: again });
    };
    let share = share(&compiled, context);
    let admitted = admitted(rule, context);
    let desired = match &admitted {
        Ok(()) => {
            let max_unavailable = max_unavailable(&compiled, context);
            reporter::generate(rule, &context.reporters.settings, &share, max_unavailable)?
        }
        Err(_) => None,
    };
    let waiting = context.reporters.backoff.of(rule);
    let applied = if let Some(Wait { failure, .. }) = &waiting {
        Ok(failure.clone())
    } else if rule.spec.suspend {
        Ok(apply::observe(desired.as_ref(), &context.caches.owned))
    } else {
        apply_reporters(rule, desired.as_ref(), context).await
    };
    let mut reporters = state(&applied, admitted);
    let refresh = add_trouble(&mut reporters, &compiled, context).await;
    // The status reports a failure before the rule is requeued.
    let status = &context.status;
    let rate_limited = status.report(rule, &reporters, &share.conflicts, observed(context)).await?;
    applied?;
    let left = waiting.map(|waiting| waiting.left());
    let propagates = context.reporters.propagation.left(&rule.uid().unwrap_or_default());
    let again = [rate_limited, left, propagates, refresh].into_iter().flatten().min();
    Ok(Outcome { backs_off: left.is_some(), requeue_after: again })
}

/// Adds the reason why reporters do not run to their state. Returns the wait until the next check.
async fn add_trouble(
    reporters: &mut Reporters,
    rule: &Rule,
    context: &Context,
) -> Option<Duration> {
    let Reporters::Applied { status, trouble, .. } = reporters else { return None };
    if status.ready >= status.desired {
        return None;
    }
    let pods = context.caches.pods.state_filter(|pod| pod.rule_uid.as_deref() == Some(&*rule.uid));
    *trouble = most_frequent_trouble(pods.iter().map(AsRef::as_ref));
    if trouble.is_some() || pods.len() >= usize::try_from(status.desired).unwrap_or_default() {
        return None;
    }
    let daemon_set = daemon_set(rule, context)?;
    *trouble = context.reporters.creation_failures.of(&daemon_set).await;
    Some(REFRESH)
}

fn observed(context: &Context) -> Observed<'_> {
    let Context { caches, evaluations, .. } = context;
    Observed { nodes: &caches.nodes, pods: &caches.pods, evaluations }
}

/// Checks whether the rule asks for no more than is allowed.
fn admitted(rule: &NodeReadinessRule, context: &Context) -> Result<(), Refusal> {
    let ReporterManager { settings, impersonation, .. } = &context.reporters;
    reporter::admit(rule, &settings.allowances, *impersonation.borrow())
}

/// Applies a rule's reporters if the guard admits their conditions.
async fn apply_reporters(
    rule: &NodeReadinessRule,
    desired: Option<&ReporterObjects>,
    context: &Context,
) -> Result<Reporters, ApplyError> {
    if desired.is_some() {
        match context.reporters.guard.state_for(rule) {
            GuardState::InForce(_) => {}
            GuardState::Pending => return Ok(Reporters::AwaitingPolicy),
            GuardState::Failed(cause) => return Ok(Reporters::Failed(cause)),
        }
    }
    let ReporterManager { applier, propagation, .. } = &context.reporters;
    apply::apply(applier, rule, desired, &context.caches.owned, propagation).await
}

/// Returns the state of a rule's reporters.
fn state(applied: &Result<Reporters, ApplyError>, admitted: Result<(), Refusal>) -> Reporters {
    match (applied, admitted) {
        (Err(error), _) => error.reporters(),
        (Ok(_), Err(refusal)) => Reporters::Refused(refusal),
        (Ok(reporters), Ok(())) => reporters.clone(),
    }
}

/// Returns the rule's probes that no older rule makes.
fn share(rule: &Rule, context: &Context) -> Share {
    match context.caches.rule_sets.borrow().clone() {
        // A rule without probes has no conflicts.
        Some(rules) if !rule.probed.is_empty() => {
            let others = rules.iter().filter(|other| has_reporters(other, context));
            Share::of(rule, others, &context.caches.nodes.state())
        }
        _ => Share::alone(rule),
    }
}

/// Returns whether a rule has reporters or will get them. Rules that were refused, or suspended before they had
/// reporters, write no condition.
fn has_reporters(rule: &Rule, context: &Context) -> bool {
    let Some(stored) = context.caches.rules.get(&ObjectRef::new(&rule.name)) else { return false };
    let Ok(object) = &stored.0 else { return false };
    admitted(object, context).is_ok() && (!rule.suspend || daemon_set(rule, context).is_some())
}

/// Returns the DaemonSet of a rule in the cluster.
fn daemon_set(rule: &Rule, context: &Context) -> Option<Arc<DaemonSet>> {
    let names = ReporterNames::of(&rule.name);
    let name = ObjectRef::new(&names.namespaced).within(&context.reporters.settings.namespace);
    context.caches.owned.daemon_sets.get(&name)
}

fn max_unavailable(rule: &Rule, context: &Context) -> MaxUnavailable {
    let live = daemon_set(rule, context);
    MaxUnavailable::of(live.as_deref(), || {
        context.caches.nodes.state_filter(|node| rule.selects(node) && !node.is_ready()).len()
    })
}
