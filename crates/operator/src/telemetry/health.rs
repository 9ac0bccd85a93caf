//! `/healthz` and `/readyz`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Fatal;

/// Serves health until `end`. `/healthz` reports that the process runs, and `/readyz` whether the caches have
/// synced.
///
/// # Errors
///
/// When the address cannot be used.
pub(crate) async fn serve(
    address: SocketAddr,
    synced: watch::Receiver<bool>,
    end: CancellationToken,
) -> Result<(), Fatal> {
    let ready = move || {
        let synced = *synced.borrow();
        async move {
            if synced {
                (StatusCode::OK, "ok")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "the caches have not synced yet")
            }
        }
    };
    let app = Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready));
    let cannot = |cause| Fatal::Health { address, cause };
    let listener = listen(address).await.map_err(cannot)?;
    axum::serve(listener, app).with_graceful_shutdown(end.cancelled_owned()).await.map_err(cannot)
}

/// Listens on an address. On a host without IPv6, "every address" means every IPv4 address.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}
