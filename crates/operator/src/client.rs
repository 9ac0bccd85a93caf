//! Clients of the API server.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cache::{NODE_WATCH_TIMEOUT_SECONDS, WATCH_TIMEOUT_SECONDS, WatchClients};
use crate::cli::Args;
use crate::error::Fatal;

/// How long a watch may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a watch may be silent beyond its own timeout before its connection counts as dead.
const READ_SLACK: Duration = Duration::from_secs(2);

/// Returns the clients for watches.
pub(crate) fn for_watches(config: &Config) -> Result<WatchClients, Fatal> {
    Ok(WatchClients {
        nodes: connect(with_timeouts(config.clone(), NODE_WATCH_TIMEOUT_SECONDS))?,
        others: connect(with_timeouts(config.clone(), WATCH_TIMEOUT_SECONDS))?,
    })
}

/// Returns a client without retries, because each controller decides whether a failed request still makes sense.
pub(crate) fn connect(mut config: Config) -> Result<Client, Fatal> {
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Fatal::Client(error.to_string()))
}

/// Returns a configuration for watches with this timeout, in seconds. It sets a read timeout, which kube does not
/// have by default, to detect dead connections.
fn with_timeouts(mut config: Config, watch_timeout: u32) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(Duration::from_secs(watch_timeout.into()) + READ_SLACK);
    config
}

/// Returns the configuration from `--kubeconfig`, else `$KUBECONFIG`, else the pod's ServiceAccount, else
/// `~/.kube/config`.
pub(crate) async fn config(args: &Args) -> Result<Config, Fatal> {
    // Not `Config::infer`, whose environment variables for debugging could replace the server and the identity.
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
