//! `/metrics` over HTTP or HTTPS.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::tls_rustls::from_tcp_rustls;
use kube::Client;
use node_readiness_engine::rbac::METRICS_PATH;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::certificates::{CertificateError, Certificates};
use super::gate::{Gate, Verdict};
use crate::cli::MetricsArgs;

/// The content type: `OpenMetrics` 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The timeout for the first request of a connection.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// The reason why metrics cannot be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address cannot be used.
    #[error("--metrics-bind-address {address}: {cause}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The cause.
        cause: std::io::Error,
    },
    /// There is no usable certificate.
    #[error("--metrics-cert-dir: {0}")]
    Certificate(#[from] CertificateError),
}

/// The state of the server.
struct Scrape {
    registry: Registry,
    /// Authorizes readers; `None` admits everybody.
    gate: Option<Gate>,
}

/// Serves metrics until `end`, or not at all without an address.
///
/// # Errors
///
/// When the address or the certificate cannot be used.
pub(crate) async fn serve(
    args: &MetricsArgs,
    registry: Registry,
    client: Client,
    end: CancellationToken,
) -> Result<(), ServeError> {
    let Some(address) = args.metrics_bind_address else { return Ok(()) };
    let cannot = |cause| ServeError::Address { address, cause };
    let gate = args.metrics_secure.then(|| Gate::new(client));
    let app = Router::new()
        .route(METRICS_PATH, get(scrape))
        .with_state(Arc::new(Scrape { registry, gate }))
        .into_make_service();
    let listener = TcpListener::bind(address).map_err(cannot)?;
    let serving = async {
        if !args.metrics_secure {
            let server = axum_server::from_tcp(listener).map_err(cannot)?;
            let server = server.http1_only().first_request_timeout(FIRST_REQUEST);
            return server.serve(app).await.map_err(cannot);
        }
        let certificates = Certificates::open(args.certificate_directory())?;
        let server = from_tcp_rustls(listener, certificates.config.clone()).map_err(cannot)?;
        let server = server.http1_only().first_request_timeout(FIRST_REQUEST);
        tokio::select! {
            ended = server.serve(app) => ended.map_err(cannot),
            () = certificates.follow() => Ok(()),
        }
    };
    tokio::select! {
        ended = serving => ended,
        () = end.cancelled() => Ok(()),
    }
}

async fn scrape(State(scrape): State<Arc<Scrape>>, headers: HeaderMap) -> Response {
    if let Some(gate) = &scrape.gate {
        let verdict = gate.decide(&headers).await;
        if verdict != Verdict::Admitted {
            return verdict.into_response();
        }
    }
    let mut exposed = String::new();
    match text::encode(&mut exposed, &scrape.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], exposed).into_response(),
        // Writing to a string does not fail.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
