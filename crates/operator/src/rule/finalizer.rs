//! The finalizer of a rule, which keeps a deleted rule until no node carries its taint or record.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::{Resource, ResourceExt};
use node_readiness_api::{FINALIZER, NodeReadinessRule};
use node_readiness_engine::has_record_of;
use thiserror::Error;

use super::context::Context;
use super::error::{FinalizerError, RuleError, StatusError};
use crate::api_error;
use crate::cache::StoredRule;
use crate::clock;
use crate::leader::NotWritten;

/// How soon a deleted rule is requeued.
const NODES_RETRY: Duration = Duration::from_millis(500);

/// How long the cleanup of nodes may take before the status names them.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// Some nodes still carry the rule's taint or record.
#[derive(Debug, Error)]
#[error("{} nodes still carry its taint or record", .0.len())]
pub struct StillClaimed(Vec<String>);

/// The next step for a rule.
pub(super) enum Next {
    /// Reconcile it.
    Reconcile,
    /// It is deleted and waits for these nodes.
    Await(Vec<String>),
    /// Only return this action.
    Nothing(Action),
}

/// Adds the finalizer to a rule. Removes it from a deleted rule when its reporters are deleted and every node
/// is clean.
///
/// Needs only metadata, so an unreadable rule can be deleted.
pub(super) async fn finalize(rule: &StoredRule, context: &Context) -> Result<Next, RuleError> {
    let held = rule.finalizers().iter().any(|name| name == FINALIZER);
    let going = rule.meta().deletion_timestamp.is_some();
    match (held, going) {
        (true, false) => return Ok(Next::Reconcile),
        // The operator's finalizer is removed, so the cleanup is complete.
        (false, true) => return Ok(Next::Nothing(Action::await_change())),
        (true, true) => {
            // Policies must outlive the permissions that they limit. The garbage collector would delete the objects
            // of reporters in any order.
            if !context.reporters.borrow().is_released(&rule.uid().unwrap_or_default()) {
                return Ok(Next::Nothing(Action::await_change()));
            }
        }
        (false, false) => {}
    }
    let api: Api<PartialObjectMeta<NodeReadinessRule>> = Api::all(context.client.clone());
    let object = PartialObjectMeta {
        types: None,
        metadata: rule.meta().clone(),
        _phantom: std::marker::PhantomData,
    };
    let done = finalizer(&api, FINALIZER, Arc::new(object), |event| async {
        match event {
            Event::Apply(_) => Ok(Action::await_change()),
            Event::Cleanup(rule) => clean(&rule, context),
        }
    });
    match context.leadership.write(done).await {
        Ok(action) => Ok(Next::Nothing(action)),
        Err(NotWritten::Failed(finalizer::Error::CleanupFailed(StillClaimed(nodes)))) => {
            Ok(Next::Await(nodes))
        }
        Err(NotWritten::Failed(cause)) if is_stale(&cause) => {
            Ok(Next::Nothing(Action::await_change()))
        }
        Err(error) => Err(FinalizerError { rule: rule.name_any(), cause: words(&error) }.into()),
    }
}

/// Requeues a deleted rule. After some time the status names the nodes that it waits for.
pub(super) async fn await_nodes(
    rule: &StoredRule,
    nodes: &[String],
    context: &Context,
) -> Result<Action, StatusError> {
    let since = rule.meta().deletion_timestamp.as_ref();
    let waited = since.is_some_and(|since| clock::now().duration_since(since.0) > PATIENCE);
    if let (Ok(rule), true) = (&rule.0, waited) {
        context.status.deleting(rule, nodes).await?;
    }
    Ok(Action::requeue(NODES_RETRY))
}

/// Returns whether a write failed because the rule changed or no longer exists.
fn is_stale(error: &finalizer::Error<StillClaimed>) -> bool {
    match error {
        finalizer::Error::AddFinalizer(kube::Error::Api(status))
        | finalizer::Error::RemoveFinalizer(kube::Error::Api(status)) => {
            status.code == 404 || api_error::is_stale(status)
        }
        _ => false,
    }
}

/// Returns the reason why the finalizer was not written.
fn words(error: &NotWritten<finalizer::Error<StillClaimed>>) -> String {
    match error {
        NotWritten::Failed(
            finalizer::Error::AddFinalizer(cause) | finalizer::Error::RemoveFinalizer(cause),
        ) => api_error::of_request(cause).message,
        error => api_error::with_causes(error),
    }
}

/// Fails while nodes carry the rule's taint or record, which the node controller removes.
fn clean(
    rule: &PartialObjectMeta<NodeReadinessRule>,
    context: &Context,
) -> Result<Action, StillClaimed> {
    let (name, uid) = (rule.name_any(), rule.uid().unwrap_or_default());
    let nodes = context.caches.nodes.state();
    let claimed = nodes.iter().filter(|node| has_record_of(node, &name, &uid));
    let claimed: Vec<_> = claimed.map(|node| node.name().to_owned()).collect();
    if !claimed.is_empty() {
        return Err(StillClaimed(claimed));
    }
    context.evaluations.forget_rule(&uid);
    Ok(Action::await_change())
}
