//! The finalizer of a rule: it stays until no node carries anything of it.

use std::sync::Arc;
use std::time::Duration;

use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::{Resource, ResourceExt};
use node_readiness_api::{FINALIZER, NodeReadinessRule};
use node_readiness_engine::carries_trace;
use thiserror::Error;

use super::Context;
use crate::leadership::NotWritten;
use crate::watches::StoredRule;

/// How soon nodes that are being cleaned are looked at again.
const NODES_RETRY: Duration = Duration::from_millis(500);

/// The finalizer could not be added or removed.
#[derive(Debug, Error)]
#[error("finalizer {FINALIZER} of NodeReadinessRule {rule}: {cause}")]
pub struct CleanupError {
    rule: String,
    cause: Box<NotWritten<finalizer::Error<StillClaimed>>>,
}

/// Some nodes still carry something of the rule.
#[derive(Debug, Error)]
#[error("{0} nodes still carry its taint or record")]
pub struct StillClaimed(usize);

/// Adds the finalizer to a rule, or removes it from one that goes once every node is clean. Says
/// what to do next if there is nothing else to do for the rule now.
///
/// It works on metadata alone, so that a rule that cannot be read can be deleted.
pub(super) async fn finalize(
    rule: &StoredRule,
    context: &Context,
) -> Result<Option<Action>, CleanupError> {
    let held = rule.finalizers().iter().any(|name| name == FINALIZER);
    let going = rule.meta().deletion_timestamp.is_some();
    match (held, going) {
        (true, false) => return Ok(None),
        // Nothing of ours keeps the rule: it is as good as gone.
        (false, true) => return Ok(Some(Action::await_change())),
        (false, false) | (true, true) => {}
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
        Ok(action) => Ok(Some(action)),
        Err(NotWritten::Failed(finalizer::Error::CleanupFailed(StillClaimed(_)))) => {
            Ok(Some(Action::requeue(NODES_RETRY)))
        }
        Err(NotWritten::Failed(cause)) if is_stale(&cause) => Ok(Some(Action::await_change())),
        Err(cause) => Err(CleanupError { rule: rule.name_any(), cause: Box::new(cause) }),
    }
}

/// Whether a write failed because the rule had changed since it was read, or is gone. The watch
/// brings it as it is now.
fn is_stale(error: &finalizer::Error<StillClaimed>) -> bool {
    match error {
        finalizer::Error::AddFinalizer(kube::Error::Api(status))
        | finalizer::Error::RemoveFinalizer(kube::Error::Api(status)) => {
            let has_causes = status.details.as_ref().is_some_and(|d| !d.causes.is_empty());
            matches!(status.code, 404 | 409) || (status.code == 422 && !has_causes)
        }
        _ => false,
    }
}

/// Whether every node is clean. The node path does the cleaning; this only looks.
fn clean(
    rule: &PartialObjectMeta<NodeReadinessRule>,
    context: &Context,
) -> Result<Action, StillClaimed> {
    let (name, uid) = (rule.name_any(), rule.uid().unwrap_or_default());
    let nodes = context.nodes.state();
    let claimed = nodes.iter().filter(|node| carries_trace(node, &name, &uid)).count();
    if claimed > 0 {
        return Err(StillClaimed(claimed));
    }
    context.ledger.forget_rule(&uid);
    Ok(Action::await_change())
}
