//! The node agent: runs a rule's probes on its node and writes what they find into the conditions
//! of its own Node.
//!
//! Data flows one way: `probe → outcome → thresholds → verdict → condition → write or skip`.
//!
//! | module | what it is | does I/O |
//! | --- | --- | --- |
//! | [`cli`] | the command line | no |
//! | [`settings`] | what to do, in two forms, checked | reads files and variables |
//! | [`probe`] | one observation, and when it is made | to the probed side |
//! | [`threshold`] | how many outcomes in a row make a verdict | no |
//! | [`verdicts`] | the latest verdict of each condition | no |
//! | [`node`] | a Node's JSON and the conditions in it | no |
//! | [`yields`] | what is left to reporters of other rules | no |
//! | [`writer`] | the one task that reads and writes the Node | to the API server |
//! | [`metrics`] | what Prometheus may scrape | serves them where asked to |
//! | [`liveness`] | by what kubelet sees that the process is not stuck | a file |
//! | [`install`] | brings the program into another image | copies itself |
//!
//! Invariants: one task writes; a write carries the `resourceVersion` that was read and every field
//! that was read; what a probe received never reaches a condition; memory does not depend on how
//! long anything has been failing; no request is made while nothing changes and no heartbeat is
//! due; a probe has one blocking call, one process or one connection at a time (several attempts
//! where an address does not answer), and none of them holds up the one thread.

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

/// Time that one request to the API server may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Time that a write under way has to complete when the process is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Why a reporter ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// A command line argument is wrong.
    #[error("{0}")]
    Args(#[from] cli::ArgsError),
    /// A setting is missing or wrong.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The certificates for an https endpoint cannot be used.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// The process is not in a pod, or cannot use what it finds there.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// The program cannot be copied.
    #[error("{0}")]
    Install(#[from] InstallError),
    /// The operating system refuses something that every process may do.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A task ended that never ends.
    #[error("a probe's task ended unexpectedly ({0}): please report this as a bug")]
    Task(tokio::task::JoinError),
}

impl FatalError {
    /// The process's exit code: 2 if a person has to change something, else 1.
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

/// Reads the settings in the form that the arguments ask for.
///
/// # Errors
/// When one is missing or wrong.
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
/// When a probe cannot be set up, or a task ends that should not.
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
