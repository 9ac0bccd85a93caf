//! The rule path, the only writer of rules' status and of reporters.
//!
//! One pass over a rule: clean up if it goes, generate, apply, report. Only the first and the last
//! two touch the network.

mod apply;
mod cleanup;
mod report;

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt, future, stream};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::reporter::{self, Settings};
use node_readiness_engine::status::Reporters;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::events::Events;
use crate::leadership::Leadership;
use crate::ledger::SharedLedger;
use crate::retries::Retries;
use crate::watches::{NodeStore, Owned, OwnedStores, RuleStore, StoredRule};
use apply::Applier;
use report::StatusWriter;

/// How many rules are worked on at the same time.
const CONCURRENCY: u16 = 8;

/// How soon a rule is looked at again while the first lists are being read.
const SYNC_RETRY: Duration = Duration::from_millis(100);

/// What the rule path works with.
pub(crate) struct RulePath {
    pub client: kube::Client,
    pub nodes: NodeStore,
    pub ledger: Arc<SharedLedger>,
    pub synced: watch::Receiver<bool>,
    pub events: Events,
    pub leadership: Leadership,
    pub settings: Settings,
}

/// A rule could not be carried out; it is retried by itself.
#[derive(Debug, Error)]
pub enum RuleError {
    /// Something generated could not be written as JSON.
    #[error("reporters could not be generated: {0}")]
    Generate(#[from] serde_json::Error),
    /// A generated object could not be applied or deleted.
    #[error(transparent)]
    Apply(#[from] apply::ApplyError),
    /// The status could not be written.
    #[error(transparent)]
    Report(#[from] report::ReportError),
    /// The finalizer could not be added or removed.
    #[error(transparent)]
    Cleanup(#[from] cleanup::CleanupError),
}

struct Context {
    nodes: NodeStore,
    owned: OwnedStores,
    ledger: Arc<SharedLedger>,
    synced: watch::Receiver<bool>,
    events: Events,
    leadership: Leadership,
    settings: Settings,
    client: kube::Client,
    applier: Applier,
    status: StatusWriter,
    retries: Retries,
}

impl RulePath {
    /// Runs until `end`. While another leads nothing is done; all rules are looked at when this
    /// process does. `news` are the uids of rules of which the ledger changed.
    pub(crate) async fn run(
        self,
        store: RuleStore,
        changes: impl Stream<Item = watcher::Result<StoredRule>> + Send + 'static,
        owned: Owned,
        news: UnboundedReceiver<String>,
        end: CancellationToken,
    ) {
        let Self { client, nodes, ledger, synced, events, leadership, settings } = self;
        let Owned { stores, touched } = owned;
        let context = Arc::new(Context {
            nodes,
            owned: stores,
            ledger,
            synced,
            events,
            applier: Applier::new(client.clone(), leadership.clone(), &settings.namespace),
            settings,
            status: StatusWriter::new(client.clone(), leadership.clone()),
            leadership: leadership.clone(),
            client,
            retries: Retries::default(),
        });
        let known = store.clone();
        let news = news.filter_map(move |uid| future::ready(rule_of_uid(&known, &uid)));
        Controller::for_stream(changes, store)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .reconcile_all_on(stream::once(leadership.acquired()))
            .reconcile_on(touched)
            .reconcile_on(news)
            .graceful_shutdown_on(end.cancelled_owned())
            .run(reconcile, retry, context)
            .for_each(async |_| ())
            .await;
    }
}

fn rule_of_uid(store: &RuleStore, uid: &str) -> Option<ObjectRef<StoredRule>> {
    store.find(|rule| rule.uid().as_deref() == Some(uid)).map(|rule| ObjectRef::from_obj(&*rule))
}

async fn reconcile(stored: Arc<StoredRule>, context: Arc<Context>) -> Result<Action, RuleError> {
    if !context.leadership.may_write() {
        return Ok(Action::await_change());
    }
    // What has not been read looks as if it were not there.
    if !*context.synced.borrow() {
        return Ok(Action::requeue(SYNC_RETRY));
    }
    if let Some(action) = cleanup::finalize(&stored, &context).await? {
        return Ok(action);
    }
    let action = match &stored.0 {
        Ok(rule) => carry_out(rule, &context).await?,
        Err(invalid) => context.status.reject(&stored, &invalid.error).await?,
    };
    context.retries.succeeded(&stored.name_any());
    Ok(action)
}

async fn carry_out(rule: &NodeReadinessRule, context: &Context) -> Result<Action, RuleError> {
    let desired = reporter::generate(rule, &context.settings)?;
    let applied = if rule.spec.suspend {
        Ok(apply::observe(desired.as_ref(), &context.owned))
    } else {
        context.applier.apply(rule, desired.as_ref(), &context.owned).await
    };
    let reporters = match &applied {
        Ok(reporters) => reporters.clone(),
        Err(error) => Reporters::Failed(error.to_string()),
    };
    // The status tells of a failure before the rule is put back to be tried again.
    let action = context.status.report(rule, &reporters, &context.nodes, &context.ledger).await?;
    if let Err(error) = applied {
        context.events.rule_failed(rule_reference(rule), "ApplyReporters", &error.to_string());
        return Err(error.into());
    }
    Ok(action)
}

fn rule_reference(rule: &NodeReadinessRule) -> k8s_openapi::api::core::v1::ObjectReference {
    kube::Resource::object_ref(rule, &())
}

#[expect(clippy::needless_pass_by_value, reason = "the form of an error policy")]
fn retry(rule: Arc<StoredRule>, error: &RuleError, context: Arc<Context>) -> Action {
    let name = rule.name_any();
    let wait = context.retries.failed(&name);
    warn!(rule = name, "{error}; trying again in {wait:.1?}");
    Action::requeue(wait)
}
