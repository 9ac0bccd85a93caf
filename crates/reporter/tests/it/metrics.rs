//! Metrics as they are scraped.

use std::{net::SocketAddr, time::Duration};

use node_readiness_reporter::{
    metrics::{self, Metrics},
    run,
    settings::{MetricsEndpoint, Settings},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::ApiServer,
    in_time,
    site::{Reply, Site},
    writing::{CONDITION, client, is, probe_of, settings},
};

/// An address that is free.
pub(crate) async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The whole answer to a request, head and body, once there is somebody to ask.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => time::sleep(Duration::from_millis(5)).await,
        }
    };
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_work_of_a_reporter_is_counted() {
    let site = Site::start(|_| Reply::status(200)).await;
    let server = ApiServer::start(json!([]), &[]).await;
    let address = free().await;
    let settings = Settings {
        metrics: Some(MetricsEndpoint { address, setting: "--metrics-port" }),
        ..settings([probe_of(&site)])
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(settings, client(&server), stop.clone()));
    server.condition(CONDITION, is("True")).await;
    let counted = |answer: &str, line: &str| {
        answer
            .lines()
            .any(|other| other.starts_with("node_readiness_reporter_") && other.contains(line))
    };
    // The answer to the write takes a moment to get back to the writer.
    in_time(async {
        while !counted(&ask(address, "GET /metrics").await, "writes_total{result=\"success\"} 1") {}
    })
    .await;
    let answer = in_time(ask(address, "GET /metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    assert!(!counted(&answer, "checks_total{result=\"healthy\"} 0"), "{answer}");
    assert!(counted(&answer, "checks_total{result=\"unhealthy\"} 0"), "{answer}");
    stop.cancel();
    in_time(task).await.unwrap().unwrap();
}

#[tokio::test]
async fn nothing_else_is_served() {
    let address = free().await;
    tokio::spawn(metrics::serve(address, "metricsPort", Metrics::default()));
    for (request, status) in [
        ("GET /healthz", "200"),
        ("GET /", "404"),
        ("GET /metrics/x", "404"),
        ("POST /metrics", "405"),
        ("GET  /", "400"),
    ] {
        let answer = in_time(ask(address, request)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    // Who says nothing holds up nobody.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(in_time(ask(address, "GET /metrics")).await.contains("# EOF"));
}

#[tokio::test(start_paused = true)]
async fn a_port_in_use_is_taken_once_it_is_free() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = holder.local_addr().unwrap();
    let serving = tokio::spawn(metrics::serve(address, "metricsPort", Metrics::default()));
    // The clock jumps to whatever is waited for next.
    time::sleep(Duration::from_mins(5)).await;
    assert!(!serving.is_finished());
    drop(holder);
    time::sleep(Duration::from_mins(5)).await;
    time::resume();
    assert!(in_time(ask(address, "GET /metrics")).await.contains("# EOF"));
}
