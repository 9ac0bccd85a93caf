//! Writes events on nodes and rules.
//!
//! Events are written one at a time, so during a mass change the API server spends almost all of its time on
//! patches of nodes. The events follow afterwards.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use node_readiness_api::{CONTROLLER_NAME, HoldTimeoutAction, NodeReadinessRule};
use node_readiness_engine::{Change, ChangeKind, Node, NodePlan, Rule, RuleSet};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{debug, warn};

use crate::api_error;
use crate::identity;
use crate::leader::Leadership;
use crate::telemetry::metrics::Metrics;

/// The capacity of the queue. Further events are dropped and counted, because a taint never waits for an event.
/// An event takes about half a kilobyte.
const QUEUE: usize = 4096;

/// The number of events after which the recorder is replaced. The recorder keeps each event for six minutes to
/// count repetitions, and searches all of them for each. Without a limit that is hundreds of megabytes and most
/// of a processor after a mass change.
const REMEMBERED: usize = 256;

/// The queue of events to write.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: Sender<QueuedEvent>,
    metrics: Metrics,
}

/// An event in compact form, because thousands may wait.
#[derive(Debug)]
struct QueuedEvent {
    warning: bool,
    reason: Cow<'static, str>,
    action: Cow<'static, str>,
    note: String,
    regarding: Regarding,
    /// Name and uid of the event's rule, if the event is on a node.
    rule: Option<(String, Option<Arc<str>>)>,
}

#[derive(Debug)]
enum Regarding {
    Node { name: String, uid: Option<String> },
    Rule(Box<ObjectReference>),
}

impl Events {
    /// Returns a queue of events, and the task that writes them.
    pub(crate) fn new(
        client: kube::Client,
        leadership: Leadership,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, metrics }, write(client, leadership, waiting))
    }

    /// Emits an event for a changed taint, on its node. `unmet` is what the node lacks.
    pub(crate) fn changed(
        &self,
        node: &Node,
        change: &Change,
        unmet: Option<&str>,
        rules: &RuleSet,
    ) {
        let Change { rule, taint, kind, reappeared: _ } = change;
        let (reason, action) = match kind {
            ChangeKind::Added => ("TaintAdded", "AddTaint"),
            ChangeKind::Adopted => ("TaintAdopted", "AdoptTaint"),
            ChangeKind::Removed => ("TaintRemoved", "RemoveTaint"),
        };
        self.enqueue(QueuedEvent {
            warning: false,
            reason: reason.into(),
            action: action.into(),
            note: bounded(match unmet {
                Some(unmet) => {
                    format!("taint {taint} {kind} for NodeReadinessRule {rule}: {unmet}")
                }
                None => format!("taint {taint} {kind} for NodeReadinessRule {rule}"),
            }),
            regarding: Regarding::node(node),
            // The recorder merges events that differ only in their note. The rule in `secondary` keeps them
            // apart.
            rule: Some((rule.clone(), rules.get(rule).map(|rule| Arc::clone(&rule.uid)))),
        });
    }

    /// Warns on a node that regressed and is not held because of `maxUnavailable`.
    pub(crate) fn deferred(&self, node: &Node, rule: &Rule) {
        self.enqueue(QueuedEvent {
            warning: true,
            reason: "TaintDeferred".into(),
            action: "DeferTaint".into(),
            note: format!(
                "taint {} not added for NodeReadinessRule {}: its maxUnavailable nodes are held",
                rule.taint, rule.name
            ),
            regarding: Regarding::node(node),
            rule: Some((rule.name.clone(), Some(Arc::clone(&rule.uid)))),
        });
    }

    /// Warns on a node that it was held for longer than the rule's `holdTimeout`.
    pub(crate) fn overdue(&self, node: &Node, rule: &Rule, unmet: &str) {
        let Some(timeout) = rule.hold_timeout else { return };
        let outcome = match timeout.action {
            HoldTimeoutAction::Report => "and stays held",
            HoldTimeoutAction::Release => "and is released",
        };
        self.enqueue(QueuedEvent {
            warning: true,
            reason: "NodeOverdue".into(),
            action: "HoldNode".into(),
            note: bounded(format!(
                "held for more than {} s by NodeReadinessRule {} {outcome}: {unmet}",
                timeout.seconds, rule.name
            )),
            regarding: Regarding::node(node),
            rule: Some((rule.name.clone(), Some(Arc::clone(&rule.uid)))),
        });
    }

    /// Warns on a node that a field manager changed the operator's fields, and that the operator wrote them again.
    pub(crate) fn reverted(&self, node: &Node, plan: &NodePlan, manager: &str) {
        let changes = plan.changes.iter().map(|change| {
            let Change { rule, taint, kind, reappeared: _ } = change;
            format!("taint {taint} {kind} again for NodeReadinessRule {rule}")
        });
        let changes = changes.collect::<Vec<_>>().join(", ");
        let changes = if changes.is_empty() { "the record written again" } else { &changes };
        self.enqueue(QueuedEvent {
            warning: true,
            reason: "FieldManagerConflict".into(),
            action: "WriteNode".into(),
            note: bounded(format!(
                "{manager} changed taints or the record of this node: {changes}; if this repeats, the \
                 operator backs off, up to ten minutes"
            )),
            regarding: Regarding::node(node),
            rule: None,
        });
    }

    /// Warns on a node that it could not be written.
    pub(crate) fn node_failed(&self, node: &Node, cause: &str) {
        self.enqueue(QueuedEvent {
            warning: true,
            reason: "NodeWriteFailed".into(),
            action: "WriteNode".into(),
            note: bounded(format!("taints and records could not be written: {cause}")),
            regarding: Regarding::node(node),
            rule: None,
        });
    }

    /// Warns on a rule that one of its nodes could not be written.
    pub(crate) fn node_of_rule_failed(&self, node: &Node, rule: &Rule, cause: &str) {
        let reference = rule_reference(rule.name.clone(), Some(Arc::clone(&rule.uid)));
        self.enqueue(QueuedEvent {
            warning: true,
            reason: "NodeWriteFailed".into(),
            action: "WriteNode".into(),
            note: bounded(format!("node {} could not be written: {cause}", node.name())),
            regarding: Regarding::Rule(Box::new(reference)),
            rule: None,
        });
    }

    /// Warns on a rule that it could not be reconciled.
    pub(crate) fn rule_failed(
        &self,
        name: String,
        uid: Option<Arc<str>>,
        action: &str,
        cause: &str,
    ) {
        self.enqueue(QueuedEvent {
            warning: true,
            reason: format!("{action}Failed").into(),
            action: action.to_owned().into(),
            note: bounded(cause.to_owned()),
            regarding: Regarding::Rule(Box::new(rule_reference(name, uid))),
            rule: None,
        });
    }

    /// Warns on a rule that another field manager set a field of its objects, and that the operator accepts it.
    pub(crate) fn accepted(&self, name: String, uid: Option<Arc<str>>, changed: &str) {
        self.enqueue(QueuedEvent {
            warning: true,
            reason: "FieldManagerConflict".into(),
            action: "ApplyReporters".into(),
            note: bounded(changed.to_owned()),
            regarding: Regarding::Rule(Box::new(rule_reference(name, uid))),
            rule: None,
        });
    }

    fn enqueue(&self, queued: QueuedEvent) {
        if self.queue.try_send(queued).is_err() {
            self.metrics.event_dropped();
            debug!("dropped an event, because {QUEUE} are waiting");
        }
    }
}

impl Regarding {
    fn node(node: &Node) -> Self {
        Self::Node { name: node.name().to_owned(), uid: node.metadata.uid.clone() }
    }

    fn reference(self) -> ObjectReference {
        match self {
            Self::Rule(reference) => *reference,
            Self::Node { name, uid } => ObjectReference {
                api_version: Some(Node::api_version(&()).into_owned()),
                kind: Some(Node::kind(&()).into_owned()),
                name: Some(name),
                uid,
                ..ObjectReference::default()
            },
        }
    }
}

async fn write(client: kube::Client, leadership: Leadership, mut waiting: Receiver<QueuedEvent>) {
    let instance = identity::pod_name();
    let reporter = Reporter { controller: CONTROLLER_NAME.to_owned(), instance };
    let mut recorder = Recorder::new(client.clone(), reporter.clone());
    let mut remembered = 0;
    while let Some(queued) = waiting.recv().await {
        if remembered == REMEMBERED {
            recorder = Recorder::new(client.clone(), reporter.clone());
            remembered = 0;
        }
        remembered += 1;
        let QueuedEvent { warning, reason, action, note, regarding, rule } = queued;
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into_owned(),
            note: Some(note),
            action: action.into_owned(),
            secondary: rule.map(|(name, uid)| rule_reference(name, uid)),
        };
        let regarding = regarding.reference();
        if let Err(error) = leadership.write(recorder.publish(&event, &regarding)).await {
            let name = regarding.name.unwrap_or_default();
            let cause = api_error::of_write(&error).message;
            warn!(reason = event.reason, object = name, "an event could not be written: {cause}");
        }
    }
}

fn rule_reference(name: String, uid: Option<Arc<str>>) -> ObjectReference {
    ObjectReference {
        api_version: Some(NodeReadinessRule::api_version(&()).into_owned()),
        kind: Some(NodeReadinessRule::kind(&()).into_owned()),
        name: Some(name),
        uid: uid.map(|uid| uid.to_string()),
        ..ObjectReference::default()
    }
}

/// Truncates a note to 1,024 bytes, the limit of Kubernetes (events.k8s.io/v1).
fn bounded(mut note: String) -> String {
    note.truncate(note.floor_char_boundary(1024));
    note
}
