//! The node path, the only writer of nodes.
//!
//! Each node is planned over all rules when it or a rule changes, and written in one patch if need
//! be. What came of it is entered in the ledger; events follow behind.

mod lanes;
mod managers;
mod memory;
mod waits;
mod writer;

use std::collections::HashSet;
use std::sync::Arc;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt, stream};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use node_readiness_engine::{Failure, Node, NodePlan, RuleSet, Standing};
use thiserror::Error;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::events::Events;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::retries::Retries;
use crate::rewrites::Rewrites;
use crate::watches::NodeStore;
use lanes::Lane;
pub(crate) use memory::Memory;
use memory::Planned;
use writer::{Outcome, Writer};

/// The rules as the node path reads them.
pub(crate) type Rules = watch::Receiver<Option<Arc<RuleSet>>>;

/// What the node path works with.
pub(crate) struct NodePath {
    pub client: kube::Client,
    pub rules: Rules,
    pub memory: Arc<Memory>,
    pub events: Events,
    pub metrics: Metrics,
    pub leadership: Leadership,
}

/// A node could not be written; it is retried by itself.
#[derive(Debug, Error)]
#[error("Node {node} could not be written: {}", failure.message)]
struct WriteFailed {
    node: String,
    failure: Failure,
}

struct Context {
    store: NodeStore,
    writer: Writer,
    rules: Rules,
    memory: Arc<Memory>,
    events: Events,
    metrics: Metrics,
    leadership: Leadership,
    retries: Retries,
    rewrites: Rewrites,
}

impl NodePath {
    /// Runs until `end`. No node is evaluated before the rules have been read, nor while another
    /// leads: all are when this process does.
    pub(crate) async fn run(
        self,
        store: NodeStore,
        changes: impl Stream<Item = Arc<Node>> + Send + 'static,
        look_again: UnboundedReceiver<ObjectRef<Node>>,
        end: CancellationToken,
    ) {
        let Self { client, mut rules, memory, events, metrics, leadership } = self;
        tokio::select! {
            read = rules.wait_for(Option::is_some) => if read.is_err() { return },
            () = end.cancelled() => return,
        }
        // Whatever has a node looked at begins its wait.
        let noting = || {
            let memory = Arc::clone(&memory);
            move |node: &str| memory.waits.note(node)
        };
        let note = noting();
        let changes = changes.inspect(move |node| note(node.name()));
        let note = noting();
        let look_again = look_again.inspect(move |node| note(&node.name));
        let (note, known) = (noting(), store.clone());
        let rules_changed = WatchStream::from_changes(rules.clone())
            .map(move |_| known.state().iter().for_each(|node| note(node.name())));
        let context = Arc::new(Context {
            store: store.clone(),
            writer: Writer::new(client, leadership.clone()),
            rules,
            memory,
            events,
            metrics,
            leadership: leadership.clone(),
            retries: Retries::default(),
            rewrites: Rewrites::default(),
        });
        Controller::for_shared_stream(changes, store)
            .with_config(Config::default().concurrency(lanes::MOST))
            .reconcile_all_on(rules_changed)
            .reconcile_all_on(stream::once(leadership.acquired()))
            .reconcile_on(look_again)
            .graceful_shutdown_on(end.cancelled_owned())
            .run(reconcile, retry, context)
            .for_each(async |_| ())
            .await;
    }
}

async fn reconcile(node: Arc<Node>, context: Arc<Context>) -> Result<Action, WriteFailed> {
    // Also for one that only stands by: it waits for nothing.
    let waiting_since = context.memory.waits.end(node.name());
    if !context.leadership.may_write() {
        return Ok(Action::await_change());
    }
    let Some(Done { node, rules, planned, outcome }) = carry_out(node, &context).await else {
        return Ok(Action::await_change());
    };
    let plan = &planned.plan;
    context.metrics.planned(plan, planned.took);
    let outcome = outcome.after(context.retries.in_a_row(node.name()), node.name());
    match &outcome {
        Outcome::Written => {
            context.retries.succeeded(node.name());
            let news = context.memory.settle(&node, &rules, plan, &outcome, &context.store);
            tell(&node, plan, &rules, &news, &context.events);
            let waited = waiting_since.elapsed();
            context.metrics.written(&node, plan, &rules, waited, clock::now());
            context.metrics.unmet(&planned.newly_unmet);
            Ok(plan.recheck_in.map_or_else(Action::await_change, Action::requeue))
        }
        Outcome::Stale(_) => {
            context.memory.abandon(&node);
            context.memory.waits.note_since(node.name(), waiting_since);
            // The node's watch event is on the way and usually comes first.
            debug!(node = node.name(), "the node changed in between");
            Ok(Action::requeue(context.retries.failed(node.name())))
        }
        Outcome::Busy(wait) => {
            context.memory.abandon(&node);
            context.memory.waits.note_since(node.name(), waiting_since);
            let wait = (*wait).max(context.retries.failed(node.name()));
            debug!(node = node.name(), "the API server has too much to do; again in {wait:.1?}");
            Ok(Action::requeue(wait))
        }
        Outcome::Reverted(failure, wait) => {
            context.memory.settle(&node, &rules, plan, &outcome, &context.store);
            debug!(node = node.name(), "{}; again in {wait:.1?}", failure.message);
            Ok(Action::requeue(plan.recheck_in.map_or(*wait, |recheck| recheck.min(*wait))))
        }
        // What is undone waits as what is reverted.
        Outcome::Undone | Outcome::Gone | Outcome::NotLeader => {
            context.memory.abandon(&node);
            Ok(Action::await_change())
        }
        Outcome::Failed(failure) | Outcome::Unknown(failure) => {
            let news = context.memory.settle(&node, &rules, plan, &outcome, &context.store);
            context.memory.waits.note_since(node.name(), waiting_since);
            context.metrics.failed(plan, &rules);
            context.metrics.unmet(&planned.newly_unmet);
            tell_failure(&node, plan, &rules, &news, failure, &context.events);
            Err(WriteFailed { node: node.name().to_owned(), failure: failure.clone() })
        }
    }
}

/// What was planned from what, and what came of it.
struct Done {
    node: Arc<Node>,
    rules: Arc<RuleSet>,
    planned: Planned,
    outcome: Outcome,
}

/// Plans a node, and writes it if need be; `None` while there are no rules to plan by.
async fn carry_out(node: Arc<Node>, context: &Context) -> Option<Done> {
    let plan = |node: &Node, rules: &Arc<RuleSet>| context.memory.plan(node, rules, &context.store);
    let rules = context.rules.borrow().clone()?;
    let planned = plan(&node, &rules);
    if planned.plan.patch.is_none() {
        return Some(Done { node, rules, planned, outcome: Outcome::Written });
    }
    let lane = context.writer.turn().await;
    // It may have had to wait: what would be written is decided by what is known now.
    let latest =
        context.store.get(&ObjectRef::from_obj(&*node)).unwrap_or_else(|| Arc::clone(&node));
    let latest_rules = context.rules.borrow().clone()?;
    let as_before = Arc::ptr_eq(&latest, &node) && Arc::ptr_eq(&latest_rules, &rules);
    let (node, rules) = (latest, latest_rules);
    let planned = if as_before { planned } else { plan(&node, &rules) };
    let outcome = match &planned.plan.patch {
        None => Outcome::Written,
        Some(patch) => write(lane, &node, &planned.plan, patch, context).await,
    };
    Some(Done { node, rules, planned, outcome })
}

/// Writes a node, unless somebody changes it back so often that it has to wait.
async fn write(
    lane: Lane<'_>,
    node: &Node,
    plan: &NodePlan,
    patch: &json_patch::Patch,
    context: &Context,
) -> Outcome {
    let (name, rewrites) = (node.name(), &context.rewrites);
    let wait = rewrites.wait(name, plan.content);
    if !wait.is_zero() {
        return Outcome::Reverted(reverted(name), wait);
    }
    let repeats = rewrites.repeats(name, plan.content);
    let is_returning_taint = plan.changes.iter().any(|change| change.reappeared);
    // Once for each conflict: at the first write of what was written before, or of what a rule that let
    // go of the node does not want.
    let is_news = repeats == Some(0) || (repeats.is_none() && is_returning_taint);
    let manager = if is_news { context.writer.last_manager(name).await } else { None };
    let outcome = context.writer.write(lane, node, patch.clone()).await;
    let manager = match outcome {
        Outcome::Written => manager.as_deref().unwrap_or("somebody"),
        Outcome::Undone => "an admission policy or webhook",
        _ => return outcome,
    };
    rewrites.written(name, plan.content);
    if is_news {
        warn!(node = name, manager, "changed what the operator writes; it is written again");
        context.events.reverted(node, plan, manager);
    }
    if outcome == Outcome::Undone {
        return Outcome::Reverted(undone(), rewrites.wait(name, plan.content));
    }
    outcome
}

/// Why a node waits that somebody changes back again and again.
fn reverted(node: &str) -> Failure {
    let message = format!(
        "somebody changes back again and again what the operator writes, which is written again with \
         growing waits; see who with kubectl get node {node} -o yaml --show-managed-fields"
    );
    Failure { reason: "Reverted".to_owned(), message }
}

/// Why a node waits for which the API server takes writes that then change nothing.
fn undone() -> Failure {
    let message = "the API server takes what the operator writes, and nothing changes: an admission \
                   policy or a webhook removes it. It is written again with growing waits; see kubectl \
                   get mutatingadmissionpolicies,mutatingwebhookconfigurations"
        .to_owned();
    Failure { reason: "Reverted".to_owned(), message }
}

/// Tells of what was done to a node, and once of what was not done because of a limit.
fn tell(node: &Node, plan: &NodePlan, rules: &RuleSet, news: &HashSet<Arc<str>>, events: &Events) {
    for change in &plan.changes {
        let (kind, rule) = (change.kind, &change.rule);
        info!(node = node.name(), rule, taint = %change.taint, "taint {kind}");
        events.changed(node, change, rules);
    }
    let deferred = plan.findings.iter().filter(|finding| {
        finding.standing == Standing::Deferred && news.contains(&finding.rule_uid)
    });
    for rule in deferred.filter_map(|finding| rules.by_uid(&finding.rule_uid)) {
        info!(node = node.name(), rule = rule.name, "taint deferred by maxUnavailable");
        events.deferred(node, rule);
    }
}

/// Warns that a node could not be written: on the node each time, and on the rules that wanted it when
/// that is news.
fn tell_failure(
    node: &Node,
    plan: &NodePlan,
    rules: &RuleSet,
    news: &HashSet<Arc<str>>,
    failure: &Failure,
    events: &Events,
) {
    events.node_failed(node, &failure.message);
    let wanted = plan.changes.iter().filter_map(|change| rules.get(&change.rule));
    for rule in wanted.filter(|rule| news.contains(&rule.uid)) {
        events.node_of_rule_failed(node, rule, &failure.message);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form of an error policy")]
fn retry(_: Arc<Node>, error: &WriteFailed, context: Arc<Context>) -> Action {
    let wait = context.retries.failed(&error.node);
    warn!("{error}; trying again in {wait:.1?}");
    Action::requeue(wait)
}
