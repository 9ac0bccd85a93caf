//! The node controller: watches, reconciles and retries.

use std::collections::HashSet;
use std::sync::Arc;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt, stream};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use node_readiness_engine::{ChangeKind, Failure, Node, NodePlan, NodeState, Rule, RuleSet};
use thiserror::Error;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::concurrency::{self, Permit};
use super::planner::{Planned, Planner};
use super::writer::{Outcome, Writer};
use crate::backoff::Backoff;
use crate::cache::{NodeStore, RuleSets};
use crate::clock;
use crate::leader::Leadership;
use crate::telemetry::{Events, Telemetry};
use crate::write_backoff::WriteBackoff;

/// The node controller with its dependencies.
pub(crate) struct NodeController {
    pub client: kube::Client,
    pub planner: Arc<Planner>,
    pub telemetry: Telemetry,
    pub leadership: Leadership,
}

/// A failed write of a node. The controller retries it.
#[derive(Debug, Error)]
#[error("Node {node} could not be written: {}", failure.message)]
struct WriteFailed {
    node: String,
    failure: Failure,
}

struct Context {
    nodes: NodeStore,
    rules: RuleSets,
    planner: Arc<Planner>,
    writer: Writer,
    telemetry: Telemetry,
    leadership: Leadership,
    backoff: Backoff,
    write_backoff: WriteBackoff,
}

impl NodeController {
    /// Runs until `end`. It evaluates no node before the rules are synced, and none while another operator
    /// leads. When this operator becomes the leader, it evaluates all nodes.
    pub(crate) async fn run(
        self,
        nodes: NodeStore,
        mut rules: RuleSets,
        changes: impl Stream<Item = Arc<Node>> + Send + 'static,
        requeue: UnboundedReceiver<ObjectRef<Node>>,
        end: CancellationToken,
    ) {
        let Self { client, planner, telemetry, leadership } = self;
        tokio::select! {
            synced = rules.wait_for(Option::is_some) => if synced.is_err() { return },
            () = end.cancelled() => return,
        }
        // The latency of a node starts with the event that triggers its reconcile.
        let starter = || {
            let planner = Arc::clone(&planner);
            move |node: &str| planner.latency.start(node)
        };
        let start = starter();
        let changes = changes.inspect(move |node| start(node.name()));
        let start = starter();
        let requeue = requeue.inspect(move |node| start(&node.name));
        let (start, known) = (starter(), nodes.clone());
        let rules_changed = WatchStream::from_changes(rules.clone())
            .map(move |_| known.state().iter().for_each(|node| start(node.name())));
        let context = Arc::new(Context {
            nodes: nodes.clone(),
            rules,
            planner,
            writer: Writer::new(client, leadership.clone()),
            telemetry,
            leadership: leadership.clone(),
            backoff: Backoff::default(),
            write_backoff: WriteBackoff::default(),
        });
        Controller::for_shared_stream(changes, nodes)
            .with_config(Config::default().concurrency(concurrency::MOST))
            .reconcile_all_on(rules_changed)
            .reconcile_all_on(stream::once(leadership.acquired()))
            .reconcile_on(requeue)
            .graceful_shutdown_on(end.cancelled_owned())
            .run(reconcile, error_policy, context)
            .for_each(async |_| ())
            .await;
    }
}

async fn reconcile(node: Arc<Node>, context: Arc<Context>) -> Result<Action, WriteFailed> {
    // Also on a standby, where no node waits for a write.
    let waiting_since = context.planner.latency.finish(node.name());
    if !context.leadership.may_write() {
        return Ok(Action::await_change());
    }
    let Some(Reconciled { node, rules, planned, outcome }) = plan_and_write(node, &context).await
    else {
        return Ok(Action::await_change());
    };
    let plan = &planned.plan;
    context.telemetry.metrics.planned(plan, planned.took);
    let outcome = outcome.after(context.backoff.in_a_row(node.name()), node.name());
    match &outcome {
        Outcome::Written => {
            context.backoff.succeeded(node.name());
            let changed =
                context.planner.record_outcome(&node, &rules, plan, &outcome, &context.nodes);
            emit_events(&node, plan, &rules, &changed, &context.telemetry.events);
            let waited = waiting_since.elapsed();
            context.telemetry.metrics.written(&node, plan, &rules, waited, clock::now());
            context.telemetry.metrics.unmet(&planned.newly_unmet);
            Ok(plan.recheck_in.map_or_else(Action::await_change, Action::requeue))
        }
        Outcome::Stale(_) => {
            context.planner.cancel(&node);
            context.planner.latency.start_at(node.name(), waiting_since);
            // The node's next watch event usually triggers the reconcile earlier.
            debug!(node = node.name(), "the node changed since it was planned");
            Ok(Action::requeue(context.backoff.failed(node.name())))
        }
        Outcome::Busy(wait) => {
            context.planner.cancel(&node);
            context.planner.latency.start_at(node.name(), waiting_since);
            let wait = (*wait).max(context.backoff.failed(node.name()));
            debug!(node = node.name(), "the API server is overloaded; requeued after {wait:.1?}");
            Ok(Action::requeue(wait))
        }
        Outcome::Reverted(failure, wait) => {
            context.planner.record_outcome(&node, &rules, plan, &outcome, &context.nodes);
            debug!(node = node.name(), "{}; requeued after {wait:.1?}", failure.message);
            Ok(Action::requeue(plan.recheck_in.map_or(*wait, |recheck| recheck.min(*wait))))
        }
        // `write` reports `Undone` as `Reverted`.
        Outcome::Undone | Outcome::Gone | Outcome::NotLeader => {
            context.planner.cancel(&node);
            Ok(Action::await_change())
        }
        Outcome::Failed(failure) | Outcome::Unknown(failure) => {
            let changed =
                context.planner.record_outcome(&node, &rules, plan, &outcome, &context.nodes);
            context.planner.latency.start_at(node.name(), waiting_since);
            context.telemetry.metrics.failed(plan, &rules);
            context.telemetry.metrics.unmet(&planned.newly_unmet);
            emit_failure_events(&node, plan, &rules, &changed, failure, &context.telemetry.events);
            Err(WriteFailed { node: node.name().to_owned(), failure: failure.clone() })
        }
    }
}

/// A plan with its inputs and its outcome.
struct Reconciled {
    node: Arc<Node>,
    rules: Arc<RuleSet>,
    planned: Planned,
    outcome: Outcome,
}

/// Plans a node and writes it if necessary. Returns `None` until the rules have synced.
async fn plan_and_write(node: Arc<Node>, context: &Context) -> Option<Reconciled> {
    let plan =
        |node: &Node, rules: &Arc<RuleSet>| context.planner.plan(node, rules, &context.nodes);
    let rules = context.rules.borrow().clone()?;
    let planned = plan(&node, &rules);
    if planned.plan.patch.is_none() {
        return Some(Reconciled { node, rules, planned, outcome: Outcome::Written });
    }
    let permit = context.writer.acquire().await;
    // The wait for the permit may have been long, so the node is planned again from the latest cache.
    let latest =
        context.nodes.get(&ObjectRef::from_obj(&*node)).unwrap_or_else(|| Arc::clone(&node));
    let latest_rules = context.rules.borrow().clone()?;
    let as_before = Arc::ptr_eq(&latest, &node) && Arc::ptr_eq(&latest_rules, &rules);
    let (node, rules) = (latest, latest_rules);
    let planned = if as_before { planned } else { plan(&node, &rules) };
    let outcome = match &planned.plan.patch {
        None => Outcome::Written,
        Some(patch) => write(permit, &node, &planned.plan, patch, context).await,
    };
    Some(Reconciled { node, rules, planned, outcome })
}

/// Writes a node, unless it is in backoff because another client reverts its writes.
async fn write(
    permit: Permit<'_>,
    node: &Node,
    plan: &NodePlan,
    patch: &json_patch::Patch,
    context: &Context,
) -> Outcome {
    let (name, write_backoff) = (node.name(), &context.write_backoff);
    let wait = write_backoff.wait(name, plan.content_hash);
    if !wait.is_zero() {
        return Outcome::Reverted(reverted(name), wait);
    }
    let repeats = write_backoff.repeats(name, plan.content_hash);
    let is_returning_taint = plan.changes.iter().any(|change| change.reappeared);
    // Once for each conflict: at the first repetition of a write, or when a taint returned on a released node.
    let is_changed = repeats == Some(0) || (repeats.is_none() && is_returning_taint);
    let manager = if is_changed { context.writer.last_manager(name).await } else { None };
    let outcome = context.writer.write(permit, node, patch.clone()).await;
    let manager = match outcome {
        Outcome::Written => manager.as_deref().unwrap_or("another client"),
        Outcome::Undone => "an admission policy or webhook",
        _ => return outcome,
    };
    write_backoff.written(name, plan.content_hash);
    if is_changed {
        warn!(node = name, manager, "taints or the record were changed; writing them again");
        context.telemetry.events.reverted(node, plan, manager);
    }
    if outcome == Outcome::Undone {
        return Outcome::Reverted(undone(), write_backoff.wait(name, plan.content_hash));
    }
    outcome
}

/// Returns the failure for a node whose writes another client reverts repeatedly.
fn reverted(node: &str) -> Failure {
    let message = format!(
        "another client reverts the operator's writes repeatedly; the operator repeats them with exponential \
         backoff; to find the field manager, run kubectl get node {node} -o yaml --show-managed-fields"
    );
    Failure { reason: "Reverted".to_owned(), message }
}

/// Returns the failure for a node on which accepted writes have no effect.
fn undone() -> Failure {
    let message = "the API server accepts the operator's write, but the node does not change: an admission \
                   policy or a webhook removes the change; the operator repeats it with exponential backoff; \
                   see kubectl get mutatingadmissionpolicies,mutatingwebhookconfigurations"
        .to_owned();
    Failure { reason: "Reverted".to_owned(), message }
}

/// Emits events for changed taints, once for a taint that `maxUnavailable` deferred, and once for an overdue node.
fn emit_events(
    node: &Node,
    plan: &NodePlan,
    rules: &RuleSet,
    changed: &HashSet<Arc<str>>,
    events: &Events,
) {
    for change in &plan.changes {
        let (kind, rule) = (change.kind, &change.rule);
        info!(node = node.name(), rule, taint = %change.taint, "taint {kind}");
        let rule = rules.get(rule).filter(|_| kind != ChangeKind::Removed);
        events.changed(node, change, rule.and_then(|rule| unmet(plan, rule)).as_deref(), rules);
    }
    for rule in plan.newly_overdue.iter().filter_map(|name| rules.get(name)) {
        let unmet = unmet(plan, rule).unwrap_or_default();
        info!(node = node.name(), rule = rule.name, "held for longer than holdTimeout: {unmet}");
        events.overdue(node, rule, &unmet);
    }
    let deferred = plan
        .results
        .iter()
        .filter(|result| result.state == NodeState::Deferred && changed.contains(&result.rule_uid));
    for rule in deferred.filter_map(|result| rules.by_uid(&result.rule_uid)) {
        info!(node = node.name(), rule = rule.name, "taint deferred by maxUnavailable");
        events.deferred(node, rule);
    }
}

/// Describes what the node lacks for a rule.
fn unmet(plan: &NodePlan, rule: &Rule) -> Option<String> {
    let result = plan.results.iter().find(|result| result.rule_uid == rule.uid)?;
    Some(result.evaluation.describe_unmet(rule))
}

/// Emits warning events for a node that could not be written: on the node each time, and on its rules when the
/// failure is new.
fn emit_failure_events(
    node: &Node,
    plan: &NodePlan,
    rules: &RuleSet,
    changed: &HashSet<Arc<str>>,
    failure: &Failure,
    events: &Events,
) {
    events.node_failed(node, &failure.message);
    let wanted = plan.changes.iter().filter_map(|change| rules.get(&change.rule));
    for rule in wanted.filter(|rule| changed.contains(&rule.uid)) {
        events.node_of_rule_failed(node, rule, &failure.message);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form of an error policy")]
fn error_policy(_: Arc<Node>, error: &WriteFailed, context: Arc<Context>) -> Action {
    let wait = context.backoff.failed(&error.node);
    warn!("{error}; retrying in {wait:.1?}");
    Action::requeue(wait)
}
