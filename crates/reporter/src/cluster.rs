//! The way to the API server, and who the reporter is there.
//!
//! Only what kubelet mounts into a pod is used: no kubeconfig, and none of the variables by which
//! kube's `Config::infer` lets its server or identity be overridden. The token and the CA are files
//! that rotate. kube reads the CA again about once a minute; the token is read for each request.

use std::{fs, io};

use http::{HeaderValue, Request, header};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::InClusterError,
};
use tower::util::{MapRequestLayer, option_layer};

use crate::{probe::install_crypto, settings::Settings};

const USER_AGENT: &str = concat!("node-readiness-reporter/", env!("CARGO_PKG_VERSION"));

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The process has not what a pod has.
    #[error(
        "no in-cluster configuration ({0}): run in a pod that has KUBERNETES_SERVICE_HOST and \
         KUBERNETES_SERVICE_PORT and its ServiceAccount's token mounted \
         (automountServiceAccountToken)"
    )]
    NotInCluster(#[from] InClusterError),
    /// The token cannot be used.
    #[error("the ServiceAccount's token {file} cannot be used ({source}): let kubelet mount it")]
    Token {
        /// Its file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// What else the pod has cannot be used.
    #[error(
        "the ServiceAccount's credentials under /var/run/secrets/kubernetes.io/serviceaccount \
         cannot be used ({0}): let kubelet mount them"
    )]
    Credentials(#[source] Box<kube::Error>),
}

/// A client for the API server of the cluster that the process's pod is in.
///
/// # Errors
/// When the process is in no pod, or its ServiceAccount's files are missing or broken.
pub fn client(settings: &Settings) -> Result<Client, ClusterError> {
    connect(Config::incluster()?, settings)
}

/// A client with this configuration, as whom the settings say.
///
/// # Errors
/// When the configuration's credentials cannot be used.
pub fn connect(mut config: Config, settings: &Settings) -> Result<Client, ClusterError> {
    install_crypto();
    if settings.impersonate {
        // The user alone: the API server itself adds a node's groups, and refuses a node together
        // with groups, uid or extra (KEP-5284).
        config.auth_info.impersonate = Some(format!("system:node:{}", settings.node));
    }
    config.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    // kube would try a request 15 times, up to 1000 s. The writer retries with what is news by then.
    config.default_retry = false;
    // kube would keep the token that it read for a minute by the wall clock, which is for days where
    // that is set back by days.
    let authorized = config.auth_info.token_file.take().map(authorized).transpose()?;
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| ClusterError::Credentials(Box::new(error)))?;
    Ok(builder.with_layer(&option_layer(authorized)).build())
}

/// Adds to each request the token that is in the file then, or the one before if none can be read.
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
