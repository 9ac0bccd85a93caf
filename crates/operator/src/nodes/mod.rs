//! The node path, the only writer of nodes.
//!
//! Each node is planned over all rules when it or a rule changes, and written in one patch if need
//! be. What came of it is entered in the ledger; events follow behind.

mod writer;

use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::watcher;
use node_readiness_engine::{Failure, Node, NodePlan, RuleSet, plan};
use thiserror::Error;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::events::Events;
use crate::ledger::SharedLedger;
use crate::retries::Retries;
use crate::watches::NodeStore;
use writer::{Outcome, Writer};

/// How many nodes are written at the same time.
const CONCURRENCY: u16 = 32;

/// The rules as the node path reads them.
pub(crate) type Rules = watch::Receiver<Option<Arc<RuleSet>>>;

/// What the node path works with.
pub(crate) struct NodePath {
    pub client: kube::Client,
    pub rules: Rules,
    pub ledger: Arc<SharedLedger>,
    pub events: Events,
}

/// A node could not be written; it is retried by itself.
#[derive(Debug, Error)]
#[error("Node {node} could not be written: {}", failure.message)]
struct WriteFailed {
    node: String,
    failure: Failure,
}

struct Context {
    writer: Writer,
    rules: Rules,
    ledger: Arc<SharedLedger>,
    events: Events,
    retries: Retries,
}

impl NodePath {
    /// Runs until `end`. No node is evaluated before the rules have been read.
    pub(crate) async fn run(
        self,
        store: NodeStore,
        changes: impl Stream<Item = watcher::Result<Node>> + Send + 'static,
        end: CancellationToken,
    ) {
        let Self { client, mut rules, ledger, events } = self;
        tokio::select! {
            read = rules.wait_for(Option::is_some) => if read.is_err() { return },
            () = end.cancelled() => return,
        }
        let context = Arc::new(Context {
            writer: Writer::new(client),
            rules: rules.clone(),
            ledger,
            events,
            retries: Retries::default(),
        });
        Controller::for_stream(changes, store)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .reconcile_all_on(WatchStream::from_changes(rules).map(|_| ()))
            .graceful_shutdown_on(end.cancelled_owned())
            .run(reconcile, retry, context)
            .for_each(async |_| ())
            .await;
    }
}

async fn reconcile(node: Arc<Node>, context: Arc<Context>) -> Result<Action, WriteFailed> {
    let Some(rules) = context.rules.borrow().clone() else {
        return Ok(Action::await_change());
    };
    let plan = plan(&node, &rules, clock::now());
    match write(&node, &plan, &context).await {
        Outcome::Written => {
            context.retries.succeeded(node.name());
            context.ledger.enter(node.name(), &plan, None);
            tell(&node, &plan, &rules, &context.events);
            Ok(Action::await_change())
        }
        Outcome::Stale => {
            // The node's watch event is on the way and usually comes first.
            debug!(node = node.name(), "the node changed in between");
            Ok(Action::requeue(context.retries.failed(node.name())))
        }
        Outcome::Gone => Ok(Action::await_change()),
        Outcome::Failed(failure) => {
            context.ledger.enter(node.name(), &plan, Some(&failure));
            context.events.node_failed(&node, &failure.message);
            Err(WriteFailed { node: node.name().to_owned(), failure })
        }
    }
}

async fn write(node: &Node, plan: &NodePlan, context: &Context) -> Outcome {
    match &plan.patch {
        None => Outcome::Written,
        Some(patch) => context.writer.write(node.name(), patch.clone()).await,
    }
}

fn tell(node: &Node, plan: &NodePlan, rules: &RuleSet, events: &Events) {
    for change in &plan.changes {
        let (kind, rule) = (change.kind, &change.rule);
        info!(node = node.name(), rule, taint = %change.taint, "taint {kind}");
        events.changed(node, change, rules);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form of an error policy")]
fn retry(_: Arc<Node>, error: &WriteFailed, context: Arc<Context>) -> Action {
    let wait = context.retries.failed(&error.node);
    warn!("{error}; trying again in {wait:.1?}");
    Action::requeue(wait)
}
