//! The rule path, the only writer of rules' status and of reporters.
//!
//! One pass over a rule: clean up if it goes, generate, apply, report. Only the first and the last
//! two touch the network.

mod apply;
mod carry;
mod cleanup;
mod creation;
mod report;
mod resting;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use node_readiness_engine::Rule;
use node_readiness_engine::reporter::{ConstrainedImpersonation, Settings};
use thiserror::Error;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::applier::{Applier, ApplyError};
use crate::clock;
use crate::events::Events;
use crate::guard::Guard;
use crate::leadership::Leadership;
use crate::ledger::SharedLedger;
use crate::metrics::Metrics;
use crate::nodes::Rules;
use crate::retries::Retries;
use crate::settling::Settling;
use crate::watches::{NodeStore, Owned, OwnedStores, PodStore, RuleStore, StoredRule};
use carry::{Carried, carry_out};
use cleanup::Next;
use creation::CreationFailures;
use report::StatusWriter;
use resting::Resting;

/// How many rules are worked on at the same time.
const CONCURRENCY: u16 = 8;

/// How soon a rule is looked at again while the first lists are being read.
const SYNC_RETRY: Duration = Duration::from_millis(100);

/// What the rule path works with.
pub(crate) struct RulePath {
    pub client: kube::Client,
    pub applier: Applier,
    pub guard: Guard,
    pub impersonation: watch::Receiver<ConstrainedImpersonation>,
    pub nodes: NodeStore,
    pub pods: PodStore,
    pub rules: Rules,
    pub ledger: Arc<SharedLedger>,
    pub synced: watch::Receiver<bool>,
    pub events: Events,
    pub metrics: Metrics,
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
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error(transparent)]
    Report(#[from] report::ReportError),
    /// The finalizer could not be added or removed.
    #[error(transparent)]
    Cleanup(#[from] cleanup::CleanupError),
}

struct Context {
    store: RuleStore,
    nodes: NodeStore,
    pods: PodStore,
    creation_failures: CreationFailures,
    rules: Rules,
    owned: OwnedStores,
    ledger: Arc<SharedLedger>,
    synced: watch::Receiver<bool>,
    events: Events,
    metrics: Metrics,
    leadership: Leadership,
    settings: Settings,
    client: kube::Client,
    applier: Applier,
    guard: Guard,
    impersonation: watch::Receiver<ConstrainedImpersonation>,
    settling: Settling,
    status: StatusWriter,
    retries: Retries,
    resting: Resting,
}

impl RulePath {
    /// Runs until `end`. While another leads nothing is done; all rules are looked at when this
    /// process does. `news` are the uids of rules of which the ledger or the pods changed.
    pub(crate) async fn run(
        self,
        store: RuleStore,
        changes: impl Stream<Item = watcher::Result<StoredRule>> + Send + 'static,
        owned: Owned,
        news: impl Stream<Item = Arc<str>> + Send + 'static,
        end: CancellationToken,
    ) {
        let Self {
            client,
            applier,
            guard,
            impersonation,
            nodes,
            pods,
            rules,
            ledger,
            synced,
            events,
            metrics,
            leadership,
            settings,
        } = self;
        let Owned { stores, touched, listed_anew, guard_touched: _ } = owned;
        let guard_changes = guard.changes();
        let found_out = impersonation.clone();
        let context = Arc::new(Context {
            store: store.clone(),
            nodes,
            pods,
            creation_failures: CreationFailures::new(client.clone(), &settings.namespace),
            rules: rules.clone(),
            owned: stores,
            ledger,
            synced,
            events,
            metrics,
            applier,
            guard,
            impersonation,
            settling: Settling::default(),
            settings,
            status: StatusWriter::new(client.clone(), leadership.clone()),
            leadership: leadership.clone(),
            client,
            retries: Retries::default(),
            resting: Resting::default(),
        });
        let known = rules.clone();
        let news = news.flat_map(move |uid| stream::iter(concerned(&known, &uid)));
        Controller::for_stream(changes, store)
            .with_config(Config::default().concurrency(CONCURRENCY))
            // A rule can come to stand in another's way.
            .reconcile_all_on(WatchStream::from_changes(rules).map(|_| ()))
            .reconcile_all_on(stream::once(leadership.acquired()))
            // Reporters wait for both.
            .reconcile_all_on(WatchStream::from_changes(guard_changes).map(|_| ()))
            .reconcile_all_on(WatchStream::from_changes(found_out).map(|_| ()))
            .reconcile_all_on(WatchStream::from_changes(listed_anew))
            .reconcile_on(touched)
            .reconcile_on(news)
            .graceful_shutdown_on(end.cancelled_owned())
            .run(reconcile, retry, context)
            .for_each(async |_| ())
            .await;
    }
}

impl RuleError {
    /// What could not be done, as events name it.
    fn action(&self) -> &'static str {
        match self {
            Self::Generate(_) | Self::Apply(_) => "ApplyReporters",
            Self::Report(_) => "ReportStatus",
            Self::Cleanup(_) => "CleanUp",
        }
    }
}

/// The rules to look at when there is news of one: that one, and those that probe a condition that it
/// probes, since they may have come to share nodes.
fn concerned(rules: &Rules, uid: &str) -> Vec<ObjectRef<StoredRule>> {
    let Some(rules) = rules.borrow().clone() else { return Vec::new() };
    let Some(rule) = rules.by_uid(uid) else { return Vec::new() };
    let shares = |other: &&Rule| {
        other.uid == rule.uid || other.probed.iter().any(|probed| rule.probed.contains(probed))
    };
    rules.iter().filter(shares).map(|rule| ObjectRef::new(&rule.name)).collect()
}

async fn reconcile(stored: Arc<StoredRule>, context: Arc<Context>) -> Result<Action, RuleError> {
    if !context.leadership.may_write() {
        return Ok(Action::await_change());
    }
    // What has not been read looks as if it were not there.
    if !*context.synced.borrow() {
        return Ok(Action::requeue(SYNC_RETRY));
    }
    match cleanup::finalize(&stored, &context).await? {
        Next::CarryOut => {}
        Next::Await(nodes) => return Ok(cleanup::await_nodes(&stored, &nodes, &context).await?),
        Next::Nothing(action) => return Ok(action),
    }
    let uid = stored.uid().unwrap_or_default();
    if !stored.0.as_ref().is_ok_and(|rule| Rule::compile(rule).is_ok()) {
        context.metrics.not_evaluable(&uid);
    }
    let Carried { rests, again } = match &stored.0 {
        // Boxed: it holds seven objects in several forms.
        Ok(rule) => Box::pin(carry_out(rule, &context)).await?,
        Err(invalid) => {
            context.status.reject(&stored, &invalid.error).await?;
            Carried { rests: false, again: None }
        }
    };
    // One that rests has not succeeded: if it is refused again it waits longer.
    if !rests {
        context.retries.succeeded(&stored.name_any());
        context.metrics.reconciled(&uid, clock::now());
    }
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

#[expect(clippy::needless_pass_by_value, reason = "the form of an error policy")]
fn retry(rule: Arc<StoredRule>, error: &RuleError, context: Arc<Context>) -> Action {
    let name = rule.name_any();
    let wait = context.retries.failed(&name);
    if let RuleError::Apply(error) = error {
        context.resting.rest(&*rule, wait, error.reporters());
    }
    let uid = rule.uid().map(Arc::from);
    context.events.rule_failed(name.clone(), uid, error.action(), &error.to_string());
    warn!(rule = name, "{error}; trying again in {wait:.1?}");
    Action::requeue(wait)
}
