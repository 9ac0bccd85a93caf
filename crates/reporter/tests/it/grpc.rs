//! The `grpc` probe against health services, and against servers that are none.

use std::sync::{Arc, Mutex};

use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Bytes;
use node_readiness_reporter::probe::{Check, GrpcCheck};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::{
    observe::{self, SHORT, first_verdict},
    site::{Reply, Site},
};

/// What the server does with a call.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Sends this body and then a status in trailers.
    Body(&'static [u8], &'static str),
    /// Sends a status in the headers and nothing else, as gRPC servers do for an error.
    Status(&'static str),
    /// Sends this body and no trailers.
    NoTrailers(&'static [u8]),
    /// Sends this HTTP status.
    Http(u16),
    /// Sends this content type.
    ContentType(&'static str),
    /// Sends a body without end.
    Endless,
    /// Sends more headers than anybody should.
    HugeHeaders,
    /// Sends headers, and then neither more nor the end.
    Stall,
    /// Refuses the stream.
    Reset,
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// A call as it came: its path, its headers and its body.
type Call = (String, HeaderMap, Vec<u8>);

struct Server {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let seen = Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(serve(request, respond, answer, Arc::clone(&seen)));
                    }
                });
            }
        });
        Self { port, calls }
    }
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: Answer,
    seen: Arc<Mutex<Vec<Call>>>,
) {
    let (head, mut body) = request.into_parts();
    let mut sent = Vec::new();
    while let Some(data) = body.data().await {
        sent.extend_from_slice(&data.unwrap());
    }
    seen.lock().unwrap().push((head.uri.path().to_owned(), head.headers, sent));
    let ok = || Response::builder().header("content-type", "application/grpc");
    let mut reply = |response: http::response::Builder, end| {
        respond.send_response(response.body(()).unwrap(), end).unwrap()
    };
    match answer {
        Answer::Body(body, status) => {
            let mut stream = reply(ok(), false);
            // In two pieces, as a network may cut it.
            let (first, second) = body.split_at(body.len() / 2);
            stream.send_data(Bytes::from_static(first), false).unwrap();
            stream.send_data(Bytes::from_static(second), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            stream.send_trailers(trailers).unwrap();
        }
        Answer::Status(status) => drop(reply(ok().header("grpc-status", status), true)),
        Answer::NoTrailers(body) => {
            reply(ok(), false).send_data(Bytes::from_static(body), true).unwrap();
        }
        Answer::Http(status) => drop(reply(ok().status(status), true)),
        Answer::ContentType(value) => {
            drop(reply(Response::builder().header("content-type", value), true));
        }
        Answer::Endless => {
            let mut stream = reply(ok(), false);
            let part = Bytes::from_static(&[0; 16 * 1024]);
            // Ends when the other side hangs up.
            while stream.send_data(part.clone(), false).is_ok() {
                stream.reserve_capacity(part.len());
                match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    _ => break,
                }
            }
        }
        Answer::HugeHeaders => {
            let value = "x".repeat(16 * 1024);
            drop(reply(ok().header("x-a", &value).header("x-b", &value), true));
        }
        Answer::Stall => {
            let _stream = reply(ok(), false);
            std::future::pending::<()>().await;
        }
        Answer::Reset => respond.send_reset(h2::Reason::REFUSED_STREAM),
    }
}

fn check(port: u16, service: &str) -> Check {
    Check::Grpc(GrpcCheck { host: "localhost".into(), port, service: service.into() })
}

async fn found(port: u16) -> (bool, String) {
    observe::found(check(port, ""), &format!("grpc localhost:{port}")).await
}

#[tokio::test]
async fn serving_is_a_success_and_the_call_is_what_grpc_asks_for() {
    let server = Server::start(Answer::Body(SERVING, "0")).await;
    let subject = format!("grpc localhost:{} my.Service", server.port);
    let found = observe::found(check(server.port, "my.Service"), &subject).await;
    assert_eq!(found, (true, "SERVING".into()));
    let calls = server.calls.lock().unwrap();
    let (path, headers, body) = &calls[0];
    assert_eq!(path, "/grpc.health.v1.Health/Check");
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(headers["te"], "trailers");
    assert_eq!(body, b"\0\0\0\0\x0c\x0a\x0amy.Service");
}

#[tokio::test]
async fn the_health_status_of_a_server_is_reported() {
    for (answer, words) in [
        (Answer::Body(&[0, 0, 0, 0, 2, 8, 2], "0"), "NOT_SERVING"),
        (Answer::Body(&[0, 0, 0, 0, 0], "0"), "UNKNOWN"),
        (Answer::Body(&[0, 0, 0, 0, 2, 8, 3], "0"), "the server does not know the service"),
        (Answer::Status("5"), "the server does not know the service"),
        (Answer::Status("12"), "the server has no health service"),
        (Answer::Status("14"), "gRPC status 14"),
        (Answer::Body(SERVING, "13"), "gRPC status 13"),
    ] {
        let server = Server::start(answer).await;
        assert_eq!(found(server.port).await, (false, words.into()), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_grpc_is_reported() {
    for answer in [
        Answer::Body(b"garbage", "0"),
        Answer::Body(SERVING, "fine"),
        Answer::Body(SERVING, "200"),
        Answer::Body(&[], "0"),
        Answer::NoTrailers(SERVING),
        Answer::Http(404),
        Answer::ContentType("text/html"),
        Answer::Endless,
        Answer::HugeHeaders,
    ] {
        let server = Server::start(answer).await;
        let expected = (false, "not a valid gRPC answer".into());
        assert_eq!(found(server.port).await, expected, "{answer:?}");
    }
    let server = Server::start(Answer::Reset).await;
    let expected = (false, "connection closed before a complete answer".into());
    assert_eq!(found(server.port).await, expected);
}

#[tokio::test]
async fn a_server_of_another_protocol_is_reported() {
    let http = Site::start(|_| Reply::status(200)).await;
    let (tls, _) = Site::start_tls(|_| Reply::status(200)).await;
    for port in [http.port, tls.port] {
        let (healthy, words) = found(port).await;
        assert!(!healthy);
        // Which of the two comes first is up to the server.
        let logged = ["not a valid gRPC answer", "connection closed before a complete answer"];
        assert!(logged.contains(&words.as_str()), "{words}");
    }
}

#[tokio::test]
async fn garbage_differs_from_a_closed_connection() {
    for (bytes, words) in [
        (
            &b"220 mail.example.com ESMTP and more than a frame's head\r\n"[..],
            "not a valid gRPC answer",
        ),
        (b"", "connection closed before a complete answer"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            if !bytes.is_empty() {
                // Held, so that the bytes are what the probe sees and not the end.
                std::future::pending::<()>().await;
            }
        });
        assert_eq!(found(port).await, (false, words.into()));
    }
}

#[tokio::test]
async fn nobody_listening_is_a_refused_connection() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    assert_eq!(found(port).await, (false, "connection refused".into()));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_cut_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stalling = Server::start(Answer::Stall).await;
    for port in [silent.local_addr().unwrap().port(), stalling.port] {
        let verdict = first_verdict(check(port, ""), SHORT).await;
        let message = format!("grpc localhost:{port}: no complete answer within 200ms");
        assert_eq!(verdict, ("False", "ProbeTimedOut", message));
    }
}
