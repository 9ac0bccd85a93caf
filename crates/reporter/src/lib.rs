//! The node agent: runs a rule's probes on its node and writes the results into the conditions of its own Node.
//!
//! Data flows one way: `probe → outcome → thresholds → verdict → condition → write or skip`.
//!
//! | module | what it is | does I/O |
//! | --- | --- | --- |
//! | [`cli`] | the command line | no |
//! | [`settings`] | the settings in two forms, validated | reads files and variables |
//! | [`probe`] | probes and their schedule | to the probed agent |
//! | [`threshold`] | how many equal outcomes make a verdict | no |
//! | [`verdicts`] | the latest verdict of each condition | no |
//! | [`node`] | a Node's JSON and the conditions in it | no |
//! | [`yields`] | the conditions that other rules' reporters write | no |
//! | [`writer`] | the one task that reads and writes the Node | to the API server |
//! | [`metrics`] | metrics for Prometheus | serves them on request |
//! | [`liveness`] | how kubelet notices that the process is stuck | a file |
//! | [`install`] | copies the program into another image | copies itself |
//!
//! Invariants: one task writes. A write has the `resourceVersion` and every field that was read. A condition
//! never has what a probe received. Memory does not depend on how long a failure lasts. There is no request
//! while nothing changes and no heartbeat is due. A probe has one blocking call, one process or one connection
//! at a time (several attempts if an address does not answer), and none of them blocks the one thread.

pub mod cli;
pub mod cluster;
pub mod install;
pub mod liveness;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod probe;
pub mod settings;
pub mod termination;
pub mod threshold;
pub mod verdicts;
pub mod writer;
pub mod yields;

use std::time::Duration;

use tokio::{task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    cli::Args,
    cluster::ClusterError,
    install::InstallError,
    metrics::Metrics,
    probe::{Jitter, Prober, TrustError},
    settings::{MetricsEndpoint, Settings, SettingsError},
    writer::{NodeApi, Timing, Writer},
};

/// The timeout of a request to the API server.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long a write in flight may take after the process is asked to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Why the reporter ends.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// An argument is invalid.
    #[error("{0}")]
    Args(#[from] cli::ArgsError),
    /// A setting is missing or invalid.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The certificates for an https endpoint cannot be used.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// The process is not in a pod, or cannot use the pod's credentials.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// The program cannot be copied.
    #[error("{0}")]
    Install(#[from] InstallError),
    /// The operating system refused a basic operation.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A task ended unexpectedly.
    #[error("a probe's task ended unexpectedly ({0}): please report this as a bug")]
    Task(tokio::task::JoinError),
}

impl FatalError {
    /// Returns the exit code: 2 if a person has to change something, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Args(_)
            | Self::Settings(_)
            | Self::Trust(_)
            | Self::Cluster(_)
            | Self::Install(_) => 2,
            Self::System { .. } | Self::Task(_) => 1,
        }
    }
}

/// Reads the settings in the form of the arguments.
///
/// # Errors
///
/// When a setting is missing or invalid.
pub fn load_settings(
    args: &Args,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, SettingsError> {
    if let Some(path) = &args.config {
        return settings::file::load(path, &args.host_root, variable);
    }
    let settings::env::FromEnv { settings, notes } = settings::env::load(variable)?;
    for note in notes {
        warn!("{note}");
    }
    Ok(settings)
}

/// Probes and writes until `stop`.
///
/// # Errors
///
/// When a probe cannot be prepared, or a task ends unexpectedly.
pub async fn run(
    settings: Settings,
    client: kube::Client,
    stop: CancellationToken,
) -> Result<(), FatalError> {
    let Settings { node, impersonate, heartbeat, metrics: endpoint, probes, yields } = settings;
    let acting_as = if impersonate { "its node" } else { "its ServiceAccount" };
    info!(node, acting_as, ?heartbeat, probes = probes.len(), "starting");
    let metrics = Metrics::default();
    let (publisher, verdicts) = verdicts::channel();
    let mut tasks = JoinSet::new();
    for settings in probes {
        let prober = Prober::new(settings.check.clone())?;
        let (publisher, metrics) = (publisher.clone(), metrics.clone());
        tasks.spawn(probe::run(prober, settings, Jitter::of(&node), publisher, metrics));
    }
    if let Some(MetricsEndpoint { address, setting }) = endpoint {
        tasks.spawn(metrics::serve(address, setting, metrics.clone()));
    }
    let api = NodeApi::new(client, node, REQUEST_DEADLINE);
    let writer = Writer::new(api, Timing::new(heartbeat), metrics).yielding(yields);
    let writer = writer.run(verdicts, stop.clone());
    let mut writer = std::pin::pin!(writer);
    tokio::select! {
        () = &mut writer => {}
        Some(Err(error)) = tasks.join_next() => return Err(FatalError::Task(error)),
        () = stop.cancelled() => {
            tasks.abort_all();
            if time::timeout(STOP_DEADLINE, writer).await.is_err() {
                warn!("stopping although a write is under way: it took too long");
            }
        }
    }
    info!("stopped");
    Ok(())
}
