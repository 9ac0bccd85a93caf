//! The rule controller: watches, reconciles and retries.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use node_readiness_engine::Rule;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::context::Context;
use super::error::RuleError;
use super::finalizer::{self, Next};
use super::reconcile::{self, Outcome};
use super::status::StatusWriter;
use crate::backoff::Backoff;
use crate::cache::{Caches, RuleSets, SignalFailures, StoredRule};
use crate::clock;
use crate::evaluations::EvaluationStore;
use crate::leader::Leadership;
use crate::reporters::{CreationFailures, ReporterStates};
use crate::telemetry::Telemetry;

/// How many rules are reconciled at the same time.
const CONCURRENCY: u16 = 8;

/// How soon a rule is requeued while the caches sync.
const SYNC_RETRY: Duration = Duration::from_millis(100);

/// The rule controller with its dependencies.
pub(crate) struct RuleController {
    pub client: kube::Client,
    pub reporters: watch::Receiver<ReporterStates>,
    pub creation_failures: CreationFailures,
    pub signal_failures: watch::Receiver<SignalFailures>,
    pub evaluations: Arc<EvaluationStore>,
    pub telemetry: Telemetry,
    pub leadership: Leadership,
}

impl RuleController {
    /// Runs until `end`. It does nothing while another operator leads. When this operator becomes the
    /// leader, it reconciles all rules. `notifications` are the uids of rules whose evaluations or pods
    /// changed.
    pub(crate) async fn run(
        self,
        caches: Caches,
        changes: BoxStream<'static, watcher::Result<StoredRule>>,
        notifications: impl Stream<Item = Arc<str>> + Send + 'static,
        end: CancellationToken,
    ) {
        let Self {
            client,
            reporters,
            creation_failures,
            signal_failures,
            evaluations,
            telemetry,
            leadership,
        } = self;
        let (reporter_changes, failure_changes) = (reporters.clone(), signal_failures.clone());
        let (store, rule_sets) = (caches.rules.clone(), caches.rule_sets.clone());
        let context = Arc::new(Context {
            caches,
            evaluations,
            reporters,
            creation_failures,
            signal_failures,
            status: StatusWriter::new(client.clone(), leadership.clone()),
            client,
            telemetry,
            leadership: leadership.clone(),
            backoff: Backoff::default(),
        });
        let known = rule_sets.clone();
        let notified = notifications.flat_map(move |uid| stream::iter(concerned(&known, &uid)));
        Controller::for_stream(changes, store)
            .with_config(Config::default().concurrency(CONCURRENCY))
            // A changed rule can probe the same conditions as others.
            .reconcile_all_on(WatchStream::from_changes(rule_sets).map(|_| ()))
            .reconcile_all_on(stream::once(leadership.acquired()))
            .reconcile_all_on(WatchStream::from_changes(reporter_changes).map(|_| ()))
            .reconcile_all_on(WatchStream::from_changes(failure_changes).map(|_| ()))
            .reconcile_on(notified)
            .graceful_shutdown_on(end.cancelled_owned())
            .run(reconcile, error_policy, context)
            .for_each(async |_| ())
            .await;
    }
}

/// Returns the rules to reconcile after a notification of one: the rule itself, and the rules that probe one of
/// its conditions, because they may share nodes now.
fn concerned(rules: &RuleSets, uid: &str) -> Vec<ObjectRef<StoredRule>> {
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
    // Before the caches have synced, existing objects look missing.
    if !*context.caches.synced.borrow() {
        return Ok(Action::requeue(SYNC_RETRY));
    }
    match finalizer::finalize(&stored, &context).await? {
        Next::Reconcile => {}
        Next::Await(nodes) => return Ok(finalizer::await_nodes(&stored, &nodes, &context).await?),
        Next::Nothing(action) => return Ok(action),
    }
    let uid = stored.uid().unwrap_or_default();
    if !stored.0.as_ref().is_ok_and(|rule| Rule::compile(rule).is_ok()) {
        context.telemetry.metrics.not_evaluable(&uid);
    }
    let Outcome { succeeded, requeue_after } = match &stored.0 {
        // Boxed because of its size.
        Ok(rule) => Box::pin(reconcile::reconcile(rule, &context)).await?,
        Err(invalid) => {
            context.status.reject(&stored, &invalid.error).await?;
            Outcome { succeeded: true, requeue_after: None }
        }
    };
    if succeeded {
        context.backoff.succeeded(&stored.name_any());
        context.telemetry.metrics.reconciled(&uid, clock::now());
    }
    Ok(requeue_after.map_or_else(Action::await_change, Action::requeue))
}

#[expect(clippy::needless_pass_by_value, reason = "the form of an error policy")]
fn error_policy(rule: Arc<StoredRule>, error: &RuleError, context: Arc<Context>) -> Action {
    let name = rule.name_any();
    let wait = context.backoff.failed(&name);
    let uid = rule.uid().map(Arc::from);
    context.telemetry.events.rule_failed(name.clone(), uid, error.action(), &error.to_string());
    warn!(rule = name, "{error}; retrying in {wait:.1?}");
    Action::requeue(wait)
}
