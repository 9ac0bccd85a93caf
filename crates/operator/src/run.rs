//! Putting the operator together.

use std::future::ready;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_readiness_engine::reporter::ConstrainedImpersonation;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::applier::Applier;
use crate::args::{Args, BindAddress};
use crate::election::{self, Election, Lost};
use crate::events::Events;
use crate::guard::GuardPath;
use crate::health;
use crate::impersonation;
use crate::leadership::Leadership;
use crate::ledger::SharedLedger;
use crate::metrics::{self, Metrics};
use crate::nodes::{Memory, NodePath};
use crate::rules::RulePath;
use crate::watches::{self, AllRead, NodeStore, Owned, Reading, RuleStore};

/// How long writes may take to come to an end once the process is asked to.
const GRACE: Duration = Duration::from_secs(3);

/// How long a watch may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nothing may come of a watch beyond the time that it lasts, before its connection counts as
/// dead.
const READ_SLACK: Duration = Duration::from_secs(2);

/// Why the operator cannot run.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// There is no way to the API server.
    #[error("no cluster to work with: {0}; run in a pod, or name a kubeconfig with --kubeconfig")]
    NoCluster(String),
    /// The client cannot be made.
    #[error("cannot make a client for the API server: {0}")]
    Client(String),
    /// It is not known where the Lease is.
    #[error(
        "--leader-elect takes a namespace, and this is no pod that has one ({0}): name it with \
         --leader-election-namespace"
    )]
    NoNamespace(std::io::Error),
    /// This process leads no more.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The health address cannot be used.
    #[error("--health-probe-bind-address {address}: {cause}")]
    Health {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] metrics::ServeError),
}

/// Runs the operator until `end`.
///
/// # Errors
/// When it cannot start, and when it led and does so no more. An API server that cannot be reached
/// is no reason to end for one that does not lead: it is tried again until it can.
pub async fn run(args: Args, end: CancellationToken) -> Result<(), Fatal> {
    let config = config(&args).await?;
    info!(server = %config.cluster_url, "using the API server");
    let client = connect(config.clone())?;
    let (mut election, leadership) = stand(&args, config.clone())?;
    let (ledger, news) = SharedLedger::new();
    let ledger = Arc::new(ledger);
    let metrics = Metrics::new(args.metrics.metrics_bind_address.is_some());
    let (events, write_events) = Events::new(client.clone(), leadership.clone(), metrics.clone());
    let (reading, all_read) = Reading::new();
    let watching = connect(attentive(config.clone(), watches::LASTS))?;
    let (rule_store, rules, rule_changes) = watches::rules(watching.clone(), reading.clone());
    let (memory, look_again) = Memory::new(Arc::clone(&ledger), leadership.clone());
    let memory = Arc::new(memory);
    let observer = Arc::clone(&memory);
    let watching_nodes = connect(attentive(config, watches::NODES_LAST))?;
    let (node_store, node_changes) =
        watches::nodes(watching_nodes, reading.clone(), move |event, store| {
            observer.observe(event, store);
        });
    let namespace = &args.reporter.reporters_namespace;
    let (pods, pod_changes) = watches::pods(watching.clone(), namespace, reading.clone());
    let notified = Arc::clone(&ledger);
    let watch_pods = pod_changes.for_each(move |rule_uid| {
        notified.notify(rule_uid);
        ready(())
    });
    let owned = Owned::watch(&watching, namespace, reading);
    let (synced_tx, synced) = watch::channel(false);

    let sync = announce(all_read, rule_store.clone(), node_store.clone(), synced_tx);
    let registry = metrics::exposition(
        metrics.clone(),
        rule_store.clone(),
        rules.clone(),
        Arc::clone(&ledger),
        leadership.clone(),
    );
    let metrics_served = metrics::serve(&args.metrics, registry, client.clone(), end.clone());
    let node_path = NodePath {
        client: client.clone(),
        rules: rules.clone(),
        memory,
        events: events.clone(),
        metrics: metrics.clone(),
        leadership: leadership.clone(),
    };
    let settings = args.reporter.settings();
    let applier =
        Applier::new(client.clone(), leadership.clone(), events.clone(), &settings.namespace);
    let (guard_standing, guard) = GuardPath::new_standing();
    let guard_path = GuardPath {
        applier: applier.clone(),
        rules: rules.clone(),
        stores: owned.stores.clone(),
        touched: Arc::clone(&owned.guard_touched),
        strength: args.reporter.strength(),
        leadership: leadership.clone(),
        synced: synced.clone(),
    };
    let (impersonation_found, impersonation) = watch::channel(ConstrainedImpersonation::Unknown);
    let find_out = impersonation::find_out(client.clone(), leadership.clone(), impersonation_found);
    let rule_path = RulePath {
        client,
        applier,
        guard,
        impersonation,
        nodes: node_store.clone(),
        pods,
        rules,
        ledger,
        synced: synced.clone(),
        events,
        metrics,
        leadership,
        settings,
    };
    let side = tokio::spawn(async move { tokio::join!(sync, write_events, find_out, watch_pods) });
    let work = async {
        tokio::join!(
            node_path.run(node_store, node_changes, look_again, end.clone()),
            rule_path.run(rule_store, rule_changes, owned, news, end.clone()),
            guard_path.run(guard_standing, end.clone()),
        )
    };
    let served = serve(args.health_probe_bind_address, synced.clone(), metrics_served, &end);
    let stopped = tokio::select! {
        _ = work => Ok(true),
        error = served => Err(error),
        lost = lead(election.as_mut(), synced) => Err(lost.into()),
        () = grace(&end) => Ok(false),
    };
    // Events are writes as well.
    side.abort();
    let _ = side.await;
    // A write that was cut off may still be carried out; then the lease has to run out.
    if stopped? && let Some(election) = election {
        election.release().await;
    }
    Ok(())
}

/// Serves health and metrics, and comes back only if it cannot.
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

/// Stands for election if that is asked for.
fn stand(args: &Args, config: Config) -> Result<(Option<Election>, Leadership), Fatal> {
    if !args.leader_elect {
        return Ok((None, Leadership::unlimited()));
    }
    let namespace = match args.leader_election_namespace.as_str() {
        "" => election::pod_namespace().map_err(Fatal::NoNamespace)?,
        named => named.to_owned(),
    };
    let (election, leadership) = Election::new(connect(config)?, namespace);
    Ok((Some(election), leadership))
}

/// Takes part in the election once everything has been read, and comes back only if it is lost. Who
/// has read nothing could do nothing as leader.
async fn lead(election: Option<&mut Election>, mut synced: watch::Receiver<bool>) -> Lost {
    if let Some(election) = election
        && synced.wait_for(|synced| *synced).await.is_ok()
    {
        return election.run().await;
    }
    std::future::pending().await
}

/// Ends some time after the process was asked to end: whatever has not come to an end by then, such
/// as a controller that still waits for its first list, is dropped.
async fn grace(end: &CancellationToken) {
    end.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Says once that everything has been read.
async fn announce(
    all_read: AllRead,
    rules: RuleStore,
    nodes: NodeStore,
    synced: watch::Sender<bool>,
) {
    all_read.wait().await;
    info!(rules = rules.len(), nodes = nodes.len(), "rules and nodes have been read");
    synced.send_replace(true);
}

fn connect(mut config: Config) -> Result<Client, Fatal> {
    // Each write is retried by its own path, which knows whether it still makes sense.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Fatal::Client(error.to_string()))
}

/// A configuration for watches that last for so many seconds, with which a connection that silently died
/// is given up. By default nothing would give it up.
fn attentive(mut config: Config, lasts: u32) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(Duration::from_secs(lasts.into()) + READ_SLACK);
    config
}

/// The API server by the way that the arguments name, or the usual ones in their usual order.
async fn config(args: &Args) -> Result<Config, Fatal> {
    // Not `Config::infer`, which lets debugging variables replace the server and the identity.
    let options = KubeConfigOptions::default();
    if let Some(path) = &args.kubeconfig {
        let cannot = |cause: &dyn std::error::Error| Fatal::Kubeconfig {
            path: path.clone(),
            cause: cause.to_string(),
        };
        let file = Kubeconfig::read_from(path).map_err(|error| cannot(&error))?;
        return Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|error| cannot(&error));
    }
    if std::env::var_os("KUBECONFIG").is_none()
        && let Ok(config) = Config::incluster()
    {
        return Ok(config);
    }
    let config = Config::from_kubeconfig(&options).await;
    config.map_err(|error| Fatal::NoCluster(error.to_string()))
}
