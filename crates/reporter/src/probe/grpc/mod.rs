//! The `grpc` probe: one call of `grpc.health.v1.Health/Check`, without TLS.
//!
//! It consists of HTTP/2 (the `h2` crate), the few rules of gRPC for a call ("gRPC over HTTP2"), and the two
//! messages of [`message`]. Each probe makes its own connection, which ends with the probe's future. Its memory
//! is bounded.

mod message;

use std::{pin::pin, time::Duration};

use h2::{
    Reason, RecvStream,
    client::{Connection, SendRequest},
};
use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Bytes;
use tokio::net::TcpStream;

use self::message::Health;
use super::{
    Outcome,
    error::ProbeError,
    resolve::{Resolver, authority},
    tcp::connect,
};

const USER_AGENT: &str = concat!("node-readiness-reporter/", env!("CARGO_PKG_VERSION"));

/// The maximum size of an answer; a valid one has a few bytes.
const ANSWER_LIMIT: usize = 1024;

/// The maximum size of an answer's headers.
const HEADER_LIMIT: u32 = 16 * 1024;

/// The service to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcCheck {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Name of the service; the empty name is the server as a whole.
    pub service: String,
}

/// A prepared gRPC probe.
#[derive(Debug)]
pub struct GrpcProber {
    check: GrpcCheck,
    resolver: Resolver,
    subject: String,
}

impl GrpcProber {
    pub(super) fn new(check: GrpcCheck) -> Self {
        let GrpcCheck { host, port, service } = &check;
        let server = authority(host, *port);
        let subject = if service.is_empty() {
            format!("grpc {server}")
        } else {
            format!("grpc {server} {service}")
        };
        Self { check, resolver: Resolver::new(), subject }
    }

    pub(super) async fn probe(&self) -> Outcome {
        let found = match self.call().await {
            Ok(Health::Serving) => Ok("SERVING".into()),
            Ok(Health::ServiceUnknown) => Err(ProbeError::UnknownService),
            Ok(Health::NotServing) => Err(ProbeError::NotServing("NOT_SERVING")),
            Ok(Health::Unknown) => Err(ProbeError::NotServing("UNKNOWN")),
            Err(error) => Err(error),
        };
        Outcome::of_pod_probe(&self.subject, found)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(
            &self.subject,
            Err(ProbeError::TimedOut("no complete answer", timeout)),
        )
    }

    async fn call(&self) -> Result<Health, ProbeError> {
        let stream = connect(&self.resolver, &self.check.host, self.check.port).await?;
        let (requests, connection): (_, Connection<TcpStream, Bytes>) = h2::client::Builder::new()
            .enable_push(false)
            .max_header_list_size(HEADER_LIMIT)
            .handshake(stream)
            .await
            .map_err(|error| probe_error(&error))?;
        let mut connection = pin!(connection);
        let mut exchange = pin!(exchange(requests, &self.check));
        tokio::select! {
            biased;
            found = &mut exchange => found,
            // The answer may have arrived before the end of the connection. Otherwise the end shows why.
            ended = &mut connection => match (exchange.await, ended) {
                (Ok(health), _) => Ok(health),
                (Err(_), Err(error)) => Err(probe_error(&error)),
                (Err(error), Ok(())) => Err(error),
            },
        }
    }
}

/// Sends the request and reads the answer.
async fn exchange(requests: SendRequest<Bytes>, check: &GrpcCheck) -> Result<Health, ProbeError> {
    let request = request(check).ok_or(ProbeError::Request)?;
    let mut requests = requests.ready().await.map_err(|error| probe_error(&error))?;
    let (response, mut body) =
        requests.send_request(request, false).map_err(|error| probe_error(&error))?;
    body.send_data(message::request(&check.service).into(), true)
        .map_err(|error| probe_error(&error))?;
    let (head, mut body) = response.await.map_err(|error| probe_error(&error))?.into_parts();
    if head.status != StatusCode::OK || !is_grpc(&head.headers) {
        return Err(ProbeError::NotGrpc);
    }
    // An answer without a message has its status in the headers.
    if let Some(status) = status(&head.headers) {
        return Err(status?);
    }
    let answer = read(&mut body).await?;
    let trailers = body.trailers().await.map_err(|error| probe_error(&error))?.unwrap_or_default();
    match status(&trailers) {
        Some(Ok(ProbeError::GrpcStatus(0))) => message::health(&answer).ok_or(ProbeError::NotGrpc),
        Some(status) => Err(status?),
        None => Err(ProbeError::NotGrpc),
    }
}

fn request(check: &GrpcCheck) -> Option<Request<()>> {
    let server = authority(&check.host, check.port);
    Request::post(format!("http://{server}/grpc.health.v1.Health/Check"))
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::USER_AGENT, USER_AGENT)
        .body(())
        .ok()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Returns the meaning of the call's status in these headers.
fn status(headers: &HeaderMap) -> Option<Result<ProbeError, ProbeError>> {
    let value = headers.get("grpc-status")?;
    // The codes are fixed, from 0 to 16.
    let code = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|code| *code <= 16);
    Some(match code {
        Some(5) => Ok(ProbeError::UnknownService),
        Some(12) => Ok(ProbeError::NoHealthService),
        Some(code) => Ok(ProbeError::GrpcStatus(code)),
        None => Err(ProbeError::NotGrpc),
    })
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, ProbeError> {
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| probe_error(&error))?;
        answer.extend_from_slice(&data);
        if answer.len() > ANSWER_LIMIT {
            return Err(ProbeError::NotGrpc);
        }
    }
    Ok(answer)
}

fn probe_error(error: &h2::Error) -> ProbeError {
    if let Some(error) = error.get_io() {
        return ProbeError::from(error);
    }
    if error.is_remote() && error.reason() != Some(Reason::PROTOCOL_ERROR) {
        ProbeError::ConnectionClosed
    } else {
        // Either side could not parse what it received.
        ProbeError::NotGrpc
    }
}
