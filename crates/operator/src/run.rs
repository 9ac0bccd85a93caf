//! Builds the caches and controllers, and runs them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use node_readiness_engine::reporter::ConstrainedImpersonation;
use node_readiness_engine::signals::{SignalEvent, Source};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cache::{
    Caches, Changes, NodeStore, RuleSets, SignalFailures, SignalObserver, SignalWatches,
};
use crate::cli::{Args, BindAddress};
use crate::client;
use crate::error::Fatal;
use crate::evaluations::EvaluationStore;
use crate::leader::{self, Election, Leadership, Lost};
use crate::node::{NodeController, Planner};
use crate::reporters::{
    Applier, CreationFailures, Guard, PolicyController, ReporterController, ReporterStates,
    Triggers, impersonation,
};
use crate::rule::RuleController;
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::{Events, Telemetry, health};

/// How long writes may take to finish after the process is asked to end.
const GRACE: Duration = Duration::from_secs(3);

/// Runs the operator until `end`.
///
/// # Errors
/// When it cannot start, and when it loses its leadership. An operator that does not lead retries until it
/// reaches the API server.
pub async fn run(args: Args, end: CancellationToken) -> Result<(), Fatal> {
    let config = client::config(&args).await?;
    info!(server = %config.cluster_url, "using the API server");
    let client = client::connect(config.clone())?;
    let (mut election, leadership) = candidate(&args, config.clone())?;
    let metrics = Metrics::new(args.metrics.metrics_bind_address.is_some());
    let (events, write_events) = Events::new(client.clone(), leadership.clone(), metrics.clone());
    let telemetry = Telemetry { events, metrics };

    let (evaluations, notifications) = EvaluationStore::new();
    let evaluations = Arc::new(evaluations);
    let (planner, requeue) = Planner::new(Arc::clone(&evaluations), leadership.clone());
    let planner = Arc::new(planner);
    let observer = Arc::clone(&planner);
    let (caches, changes, sync) = Caches::watch(
        client::for_watches(&config)?,
        &args.reporter.reporters_namespace,
        move |event, store| observer.observe(event, store),
    );
    let signals = client::for_watches(&config)?.others;
    let (watch_signals, signal_failures) =
        watch_signals(signals, args.watch_pods, Arc::clone(&planner), &caches);
    let Changes { rules: rule_changes, nodes: node_changes, pods: pod_changes, owned } = changes;
    let notify_pods =
        notify_pods(pod_changes.clone(), caches.rule_sets.clone(), Arc::clone(&evaluations));

    let settings = args.reporter.settings();
    let applier = Applier::new(
        client.clone(),
        leadership.clone(),
        telemetry.events.clone(),
        &settings.namespace,
    );
    let (guard_state, guard) = Guard::channel();
    let policies = PolicyController {
        applier: applier.clone(),
        strength: args.reporter.strength(),
        leadership: leadership.clone(),
    };
    let (detected, impersonation) = watch::channel(ConstrainedImpersonation::Unknown);
    let detect = impersonation::detect(client.clone(), leadership.clone(), detected);
    let registry = metrics::exposition(
        telemetry.metrics.clone(),
        caches.rules.clone(),
        caches.rule_sets.clone(),
        Arc::clone(&evaluations),
        leadership.clone(),
    );
    let metrics = metrics::serve(&args.metrics, registry, client.clone(), end.clone());
    let nodes = NodeController {
        client: client.clone(),
        planner,
        telemetry: telemetry.clone(),
        leadership: leadership.clone(),
    };
    let creation_failures = CreationFailures::new(client.clone(), &settings.namespace);
    let reporters = ReporterController {
        applier,
        settings,
        guard,
        impersonation,
        events: telemetry.events.clone(),
        leadership: leadership.clone(),
    };
    let (publish_states, reporter_states) = watch::channel(ReporterStates::default());
    let rules = RuleController {
        client,
        reporters: reporter_states,
        creation_failures,
        signal_failures,
        evaluations,
        telemetry,
        leadership,
    };

    let background = tokio::spawn(async move {
        tokio::join!(sync, write_events, detect, notify_pods, watch_signals);
    });
    let synced = caches.synced.clone();
    let triggers = Triggers { owned: owned.all, pods: pod_changes };
    let (node_cache, rule_sets) = (caches.nodes.clone(), caches.rule_sets.clone());
    let controllers = async {
        tokio::join!(
            nodes.run(node_cache, rule_sets, node_changes, requeue, end.clone()),
            policies.run(caches.clone(), owned.policies, guard_state, end.clone()),
            reporters.run(caches.clone(), triggers, publish_states, end.clone()),
            rules.run(caches.clone(), rule_changes, notifications, end.clone()),
        )
    };
    let serve = serve(args.health_probe_bind_address, synced.clone(), metrics, &end);
    let stopped = tokio::select! {
        _ = controllers => Ok(true),
        error = serve => Err(error),
        lost = lead(election.as_mut(), synced) => Err(lost.into()),
        () = grace(&end) => Ok(false),
    };
    // Events are writes as well.
    background.abort();
    let _ = background.await;
    // An interrupted write may still be applied. Then the lease has to expire.
    if stopped? && let Some(election) = election {
        election.release().await;
    }
    Ok(())
}

/// Returns the watches of signals, to run in the background, and why some of them fail.
fn watch_signals(
    client: Client,
    pods: bool,
    planner: Arc<Planner>,
    caches: &Caches,
) -> (impl Future<Output = ()> + Send + 'static, watch::Receiver<SignalFailures>) {
    let (failures, reported) = watch::channel(SignalFailures::new());
    let observer = Arc::new(Signals { planner, nodes: caches.nodes.clone() });
    let watches = SignalWatches { client, pods, observer, failures };
    (watches.run(caches.rule_sets.clone()), reported)
}

/// Passes what the watches of signals observe to the planner.
struct Signals {
    planner: Arc<Planner>,
    nodes: NodeStore,
}

impl SignalObserver for Signals {
    fn observe(&self, source: &Source, event: SignalEvent<'_>) {
        self.planner.observe_signal(source, event, &self.nodes);
    }

    fn retain(&self, sources: &BTreeSet<Source>) {
        self.planner.retain_signals(sources);
    }
}

/// Notifies the rule controller of changed pods. Any of the rules with probes may have one.
async fn notify_pods(
    mut pods: watch::Receiver<()>,
    rules: RuleSets,
    evaluations: Arc<EvaluationStore>,
) {
    while pods.changed().await.is_ok() {
        let Some(rules) = rules.borrow().clone() else { continue };
        for rule in rules.iter().filter(|rule| !rule.probed.is_empty()) {
            evaluations.notify(Arc::clone(&rule.uid));
        }
    }
}

/// Serves health and metrics, and returns only on failure.
async fn serve(
    address: BindAddress,
    synced: watch::Receiver<bool>,
    metrics: impl Future<Output = Result<(), metrics::ServeError>>,
    end: &CancellationToken,
) -> Fatal {
    let health = async {
        match address {
            Some(address) => health::serve(address, synced, end.clone()).await,
            None => Ok(()),
        }
    };
    let metrics = async { Ok(metrics.await?) };
    match tokio::try_join!(health, metrics) {
        Ok(((), ())) => std::future::pending().await,
        Err(error) => error,
    }
}

/// The candidate for leader election, if the operator takes part in one.
fn candidate(args: &Args, config: Config) -> Result<(Option<Election>, Leadership), Fatal> {
    if !args.leader_elect {
        return Ok((None, Leadership::unlimited()));
    }
    let namespace = match args.leader_election_namespace.as_str() {
        "" => leader::pod_namespace().map_err(Fatal::NoNamespace)?,
        named => named.to_owned(),
    };
    let (election, leadership) = Election::new(client::connect(config)?, namespace);
    Ok((Some(election), leadership))
}

/// Takes part in the election when the caches have synced, and returns when the leadership is lost.
async fn lead(election: Option<&mut Election>, mut synced: watch::Receiver<bool>) -> Lost {
    if let Some(election) = election
        && synced.wait_for(|synced| *synced).await.is_ok()
    {
        return election.run().await;
    }
    std::future::pending().await
}

/// Returns some time after the process was asked to end. Tasks that run longer are dropped, such as a controller
/// that waits for its first list.
async fn grace(end: &CancellationToken) {
    end.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
