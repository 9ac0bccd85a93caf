//! The node agent: runs the probes of rules on its node and writes the results into the conditions of its own Node.
//!
//! Data flows one way: `configuration, labels → assignment → probe → outcome → thresholds → verdict → condition → write
//! or skip`.
//!
//! | module | what it is | does I/O |
//! | --- | --- | --- |
//! | [`cli`] | the command line | no |
//! | [`settings`] | the settings in two forms, and the configuration, validated | reads variables |
//! | [`follow`] | follows one object | to the API server |
//! | [`identity`] | as whom requests about the Node are sent | no |
//! | [`configuration`] | follows the configuration and the Node's labels | by `follow` |
//! | [`assignment`] | which probes the node gets | no |
//! | [`supervisor`] | starts and stops probes | no |
//! | [`probe`] | probes and their schedule | to the probed agent |
//! | [`threshold`] | how many equal outcomes make a verdict | no |
//! | [`verdicts`] | the latest verdict of each condition | no |
//! | [`node`] | a Node's JSON and the conditions in it | no |
//! | [`writer`] | the one task that reads and writes the Node | to the API server |
//! | [`metrics`] | metrics for Prometheus | serves them on request |
//! | [`liveness`] | how kubelet notices that the process is stuck | a file |
//! | [`install`] | copies the program into another image | copies itself |
//!
//! Invariants: one task writes. A write has the `resourceVersion` and every field that was read. A condition
//! never has what a probe received. Memory does not depend on how long a failure lasts. There is no request
//! while nothing changes and no heartbeat or watch is due. A probe has one blocking call, one process or one
//! connection at a time (several attempts if an address does not answer), and none of them blocks the one thread.

mod api_error;
pub mod assignment;
mod backoff;
pub mod cli;
pub mod cluster;
pub mod configuration;
mod failure_log;
pub mod follow;
pub mod identity;
pub mod install;
pub mod liveness;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod probe;
pub mod settings;
pub mod supervisor;
pub mod termination;
pub mod threshold;
pub mod verdicts;
pub mod writer;

use std::time::Duration;

use tokio::{sync::watch, task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use crate::{api_error::ApiError, backoff::BackoffRange};
use crate::{
    assignment::Assignment,
    cli::Args,
    cluster::ClusterError,
    identity::Identity,
    install::InstallError,
    metrics::Metrics,
    probe::{Jitter, TrustError},
    settings::{MetricsEndpoint, Settings, SettingsError, Work},
    supervisor::Supervisor,
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
            Self::System { .. } => 1,
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
    if let Some(config_map) = &args.config_map {
        return settings::follow(config_map, args, variable);
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
/// When a probe cannot be prepared.
pub async fn run(
    settings: Settings,
    client: kube::Client,
    stop: CancellationToken,
) -> Result<(), FatalError> {
    let Settings { node, identity, metrics: endpoint, work } = settings;
    let acting_as = match identity {
        Identity::Node(_) => "its node",
        Identity::ServiceAccount => "its ServiceAccount",
    };
    info!(node, acting_as, "starting");
    let metrics = Metrics::default();
    let mut background = JoinSet::new();
    if let Some(MetricsEndpoint { address, setting }) = endpoint {
        background.spawn(metrics::serve(address, setting, metrics.clone()));
    }
    let (publish, assignments) = watch::channel(Assignment::default());
    match work {
        Work::Fixed(assignment) => {
            metrics.config_read(true);
            publish.send_replace(assignment);
        }
        Work::Followed(source) => {
            let (client, node, identity) = (client.clone(), node.clone(), identity.clone());
            let metrics = metrics.clone();
            background.spawn(async move {
                configuration::publish(source, client, &node, identity, metrics, publish).await;
            });
        }
    }
    let (publisher, verdicts) = verdicts::channel();
    let (set_heartbeat, heartbeat) = watch::channel(assignments.borrow().heartbeat);
    let supervisor = Supervisor::new(Jitter::of(&node), publisher, metrics.clone());
    let supervise = supervise(supervisor, assignments, set_heartbeat);
    let api = NodeApi::new(client, node, identity, REQUEST_DEADLINE);
    let writer = Writer::new(api, Timing::default(), heartbeat, metrics);
    let mut writer = std::pin::pin!(writer.run(verdicts, stop.clone()));
    tokio::select! {
        () = &mut writer => {}
        Err(error) = supervise => return Err(error.into()),
        () = stop.cancelled() => {
            if time::timeout(STOP_DEADLINE, writer).await.is_err() {
                warn!("stopping although a write is under way: it took too long");
            }
        }
    }
    info!("stopped");
    Ok(())
}

/// Runs the probes of each assignment.
async fn supervise(
    mut supervisor: Supervisor,
    mut assignments: watch::Receiver<Assignment>,
    heartbeat: watch::Sender<Duration>,
) -> Result<(), TrustError> {
    loop {
        let assignment = assignments.borrow_and_update().clone();
        heartbeat.send_replace(assignment.heartbeat);
        supervisor.apply(&assignment).await?;
        // The probes run as long as the supervisor lives, also those of an assignment that does not change.
        changed(&mut assignments).await;
    }
}

/// Waits for a change. A sender that is gone changes nothing any more.
pub(crate) async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
