//! Events on nodes and rules, written behind what they tell of.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use node_readiness_api::{CONTROLLER_NAME, NodeReadinessRule};
use node_readiness_engine::{Change, ChangeKind, Node, Rule, RuleSet};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{debug, warn};

use crate::identity;
use crate::leadership::Leadership;
use crate::refusal;

/// How many events wait at most. An event that finds the queue full is dropped: a taint never
/// waits for an event.
const QUEUE: usize = 1024;

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: Sender<(Event, ObjectReference)>,
}

impl Events {
    /// A queue of events, and the task that writes them.
    pub(crate) fn new(
        client: kube::Client,
        leadership: Leadership,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue }, write(client, leadership, waiting))
    }

    /// Tells of a change to a taint, on its node.
    pub(crate) fn changed(&self, node: &Node, change: &Change, rules: &RuleSet) {
        let Change { rule, taint, kind } = change;
        let (reason, action) = match kind {
            ChangeKind::Added => ("TaintAdded", "AddTaint"),
            ChangeKind::Adopted => ("TaintAdopted", "AdoptTaint"),
            ChangeKind::Removed => ("TaintRemoved", "RemoveTaint"),
        };
        let event = Event {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: Some(format!("taint {taint} {kind} for NodeReadinessRule {rule}")),
            action: action.to_owned(),
            // The recorder takes events that differ only in their note for one; naming the rule
            // tells them apart.
            secondary: Some(rule_reference(rule, rules.get(rule))),
        };
        self.hand_in(event, node.object_ref(&()));
    }

    /// Warns that a node that regressed is not held because its rule holds as many as it may.
    pub(crate) fn deferred(&self, node: &Node, rule: &Rule) {
        let event = Event {
            type_: EventType::Warning,
            reason: "TaintDeferred".to_owned(),
            note: Some(format!(
                "taint {} not added for NodeReadinessRule {}: its maxUnavailable nodes are held",
                rule.taint, rule.name
            )),
            action: "DeferTaint".to_owned(),
            secondary: Some(rule_reference(&rule.name, Some(rule))),
        };
        self.hand_in(event, node.object_ref(&()));
    }

    /// Warns that a node could not be written, on the node.
    pub(crate) fn node_failed(&self, node: &Node, cause: &str) {
        let event = Event {
            type_: EventType::Warning,
            reason: "NodeWriteFailed".to_owned(),
            note: Some(bounded(format!("taints and records could not be written: {cause}"))),
            action: "WriteNode".to_owned(),
            secondary: None,
        };
        self.hand_in(event, node.object_ref(&()));
    }

    /// Warns that a rule could not be carried out, on the rule.
    pub(crate) fn rule_failed(&self, rule: ObjectReference, action: &str, cause: &str) {
        let event = Event {
            type_: EventType::Warning,
            reason: format!("{action}Failed"),
            note: Some(bounded(cause.to_owned())),
            action: action.to_owned(),
            secondary: None,
        };
        self.hand_in(event, rule);
    }

    fn hand_in(&self, event: Event, regarding: ObjectReference) {
        if self.queue.try_send((event, regarding)).is_err() {
            debug!("an event was dropped: {QUEUE} are waiting");
        }
    }
}

async fn write(
    client: kube::Client,
    leadership: Leadership,
    mut waiting: Receiver<(Event, ObjectReference)>,
) {
    let instance = identity::pod_name();
    let reporter = Reporter { controller: CONTROLLER_NAME.to_owned(), instance };
    let recorder = Recorder::new(client, reporter);
    while let Some((event, regarding)) = waiting.recv().await {
        if let Err(error) = leadership.write(recorder.publish(&event, &regarding)).await {
            let name = regarding.name.unwrap_or_default();
            let cause = refusal::of_write(&error).message;
            warn!(reason = event.reason, object = name, "an event could not be written: {cause}");
        }
    }
}

fn rule_reference(name: &str, rule: Option<&Rule>) -> ObjectReference {
    ObjectReference {
        api_version: Some(NodeReadinessRule::api_version(&()).into_owned()),
        kind: Some(NodeReadinessRule::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: rule.map(|rule| rule.uid.clone()),
        ..ObjectReference::default()
    }
}

/// Kubernetes takes notes of at most 1,024 bytes (events.k8s.io/v1).
fn bounded(mut note: String) -> String {
    note.truncate(note.floor_char_boundary(1024));
    note
}
