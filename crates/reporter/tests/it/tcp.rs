//! The `tcpSocket` probe.

use node_readiness_reporter::probe::{Check, TcpCheck};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::observe::{SHORT, first_verdict, found};

fn check(host: &str, port: u16) -> Check {
    Check::Tcp(TcpCheck { host: host.into(), port })
}

#[tokio::test]
async fn it_becomes_ready_and_fails_with_its_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["localhost", "127.0.0.1"] {
        let subject = format!("tcpSocket {host}:{port}");
        assert_eq!(found(check(host, port), &subject).await, (true, "connected".into()));
    }
    drop(listener);
    let subject = format!("tcpSocket localhost:{port}");
    let refused = (false, "connection refused".into());
    assert_eq!(found(check("localhost", port), &subject).await, refused);
}

#[tokio::test]
async fn a_service_on_ipv6_alone_is_local_too() {
    // Not every machine has IPv6.
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let connected = (true, "connected".to_owned());
    let subject = format!("tcpSocket localhost:{port}");
    assert_eq!(found(check("localhost", port), &subject).await, connected);
    let subject = format!("tcpSocket [::1]:{port}");
    assert_eq!(found(check("::1", port), &subject).await, connected);
}

#[tokio::test]
async fn a_connection_that_is_not_taken_is_cut_at_the_deadline() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // The kernel takes connections for a listener that does not, as many as its backlog holds.
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 10, "the backlog is never full");
    }
    let port = address.port();
    let verdict = first_verdict(check("127.0.0.1", port), SHORT).await;
    let message = format!("tcpSocket 127.0.0.1:{port}: no connection within 200ms");
    assert_eq!(verdict, ("False", "ProbeTimedOut", message));
}

#[tokio::test]
async fn an_unknown_name_is_reported() {
    // A label of a name has at most 63 characters, so this asks no server anywhere.
    let host = format!("{}.invalid", "a".repeat(64));
    let subject = format!("tcpSocket {host}:1");
    let expected = (false, "host name not resolved".into());
    assert_eq!(found(check(&host, 1), &subject).await, expected);
}
