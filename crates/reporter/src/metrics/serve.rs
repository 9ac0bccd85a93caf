//! Serves the metrics over HTTP, at `/metrics`.
//!
//! A port of the host network may be in use, for example by a reporter of another set. The reporter logs that
//! and retries, because the port may belong to the pod that this one replaces. Connections are limited in time
//! and number.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tracing::{debug, info, warn};

use super::Metrics;

/// The time between two attempts at a port in use.
const RETRY: Duration = Duration::from_secs(30);

/// The timeout of a connection. A scrape takes milliseconds.
const CONNECTION: Duration = Duration::from_secs(10);

/// The maximum number of connections; others wait to be accepted.
const CONNECTIONS: usize = 4;

/// The maximum size of a request's head.
const REQUEST_LIMIT: usize = 16 * 1024;

const PLAIN: &str = "text/plain; charset=utf-8";

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves for ever. `setting` is the source of the address, for the log.
pub async fn serve(address: SocketAddr, setting: &'static str, metrics: Metrics) {
    let listener = listen(address, setting).await;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answering = answer(stream, metrics.clone());
                tokio::spawn(async move {
                    answering.await;
                    drop(permit);
                });
            }
            Err(error) => {
                debug!("a connection for metrics was not accepted: {error}");
                // Usually there are no file descriptors left, which takes time to get better.
                time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Listens as soon as possible.
async fn listen(address: SocketAddr, setting: &str) -> TcpListener {
    let mut logged = false;
    loop {
        match bind(address).await {
            Ok(listener) => {
                info!(%address, "serving metrics");
                return listener;
            }
            Err(error) if !logged => {
                warn!(
                    "{setting}: metrics cannot be served on {address} ({error}) and will be tried \
                     again: give each reporter set on the host network a port of its own, or none"
                );
                logged = true;
            }
            Err(_) => {}
        }
        time::sleep(RETRY).await;
    }
}

/// On a host without IPv6, "every address" means every IPv4 address.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

async fn answer(stream: TcpStream, metrics: Metrics) {
    let service = service_fn(move |request| {
        let response = respond(&request, &metrics);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    // An error concerns only the client.
    let _ = time::timeout(CONNECTION, connection).await;
}

fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, form, body) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => {
            (StatusCode::OK, OPEN_METRICS, metrics.exposition())
        }
        // Pods of the Go project's reporter may have a probe for this path.
        ("/healthz", &Method::GET | &Method::HEAD) => (StatusCode::OK, PLAIN, "ok".to_owned()),
        ("/metrics" | "/healthz", _) => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new()),
        _ => (StatusCode::NOT_FOUND, PLAIN, String::new()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(form));
    response
}
