//! The client of the API server.
//!
//! It uses only what kubelet mounts into a pod: no kubeconfig, and none of the variables with which kube's
//! `Config::infer` permits to override the server or identity. The token and the CA are files that rotate. kube
//! reads the CA again about once a minute, and the reporter reads the token for each request.

use std::{fs, io};

use http::{HeaderValue, Request, header};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::InClusterError,
};
use tower::util::{MapRequestLayer, option_layer};

use crate::probe::install_crypto;

const USER_AGENT: &str = concat!("node-readiness-reporter/", env!("CARGO_PKG_VERSION"));

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The process does not run in a pod.
    #[error(
        "no in-cluster configuration ({0}): run in a pod that has KUBERNETES_SERVICE_HOST and \
         KUBERNETES_SERVICE_PORT and its ServiceAccount's token mounted \
         (automountServiceAccountToken)"
    )]
    NotInCluster(#[from] InClusterError),
    /// The token cannot be used.
    #[error("the ServiceAccount's token {file} cannot be used ({source}): let kubelet mount it")]
    Token {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Other credentials of the pod cannot be used.
    #[error(
        "the ServiceAccount's credentials under /var/run/secrets/kubernetes.io/serviceaccount \
         cannot be used ({0}): let kubelet mount them"
    )]
    Credentials(#[source] Box<kube::Error>),
}

/// Returns a client for the cluster of the process's pod.
///
/// # Errors
///
/// When the process does not run in a pod, or its ServiceAccount's files are missing or invalid.
pub fn client() -> Result<Client, ClusterError> {
    connect(Config::incluster()?)
}

/// Returns a client with this configuration.
///
/// # Errors
///
/// When the configuration's credentials cannot be used.
pub fn connect(mut config: Config) -> Result<Client, ClusterError> {
    install_crypto();
    config.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    // kube would retry a request 15 times, up to 1000 s. The writer retries with the latest verdicts.
    config.default_retry = false;
    // kube would cache the token for a minute by the wall clock, which is days if the clock is set back.
    let authorized = config.auth_info.token_file.take().map(authorized).transpose()?;
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| ClusterError::Credentials(Box::new(error)))?;
    Ok(builder.with_layer(&option_layer(authorized)).build())
}

/// Adds the token to each request: the file's present one, or the last one if the file cannot be read.
fn authorized(
    file: String,
) -> Result<MapRequestLayer<impl FnMut(Request<Body>) -> Request<Body> + Clone>, ClusterError> {
    let mut token = match bearer(&file) {
        Ok(token) => token,
        Err(source) => return Err(ClusterError::Token { file, source }),
    };
    Ok(MapRequestLayer::new(move |mut request: Request<Body>| {
        if let Ok(current) = bearer(&file) {
            token = current;
        }
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        request
    }))
}

fn bearer(file: &str) -> io::Result<HeaderValue> {
    let token = fs::read_to_string(file)?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| io::Error::other("it holds what no header may"))?;
    value.set_sensitive(true);
    Ok(value)
}
