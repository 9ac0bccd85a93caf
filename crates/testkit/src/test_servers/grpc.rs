//! A gRPC health service (`grpc.health.v1`) that ignores the name of the service in a request. The `h2` crate provides
//! HTTP/2. An answer has headers, one message and trailers.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Request, Response, header},
};
use h2::{RecvStream, server::SendResponse};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{behavior::Behavior, http};

/// A gRPC message: not compressed, two bytes long, with field 1 of `HealthCheckResponse`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];

/// Answers all calls on a connection.
pub(crate) async fn answer(mut stream: TcpStream, behavior: Behavior) {
    let message = match behavior {
        Behavior::Ready => SERVING,
        Behavior::Failing => NOT_SERVING,
        Behavior::Garbage => {
            let _ = stream.write_all(http::GARBAGE).await;
            return http::await_hang_up(&mut stream).await;
        }
        _ => return http::await_hang_up(&mut stream).await,
    };
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        // The client may disconnect at any time. The connection makes progress while this waits.
        tokio::spawn(async move {
            let _ = call(request, respond, message).await;
        });
    }
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    message: &'static [u8],
) -> Result<(), h2::Error> {
    let mut asked = request.into_body();
    while let Some(data) = asked.data().await {
        data?;
    }
    let mut head = Response::new(());
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut body = respond.send_response(head, false)?;
    body.send_data(Bytes::from_static(message), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)
}
