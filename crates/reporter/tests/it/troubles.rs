//! The writer against an API server that never gets better: how often it is asked, and what is left
//! of each attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use node_readiness_reporter::{
    BackoffRange, cluster,
    metrics::Metrics,
    verdicts,
    writer::{Timing, Writer},
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::{ApiServer, Trouble},
    in_time,
    writing::{CONDITION, client, node_api, verdict},
};

/// A writer as in real use, with one verdict to write, for so long on a clock that jumps to
/// whatever is waited for next. An answer on its way does not keep the clock from jumping, so an
/// attempt may count as unanswered; how many there are does not depend on that.
async fn writes_for(server: &ApiServer, long: Duration) {
    let (publisher, verdicts) = verdicts::channel();
    publisher.publish(CONDITION, &verdict(true));
    let api = node_api(client(server), Duration::from_secs(10));
    let (_heartbeat, every) = watch::channel(Duration::from_mins(5));
    let writer = Writer::new(api, Timing::default(), every, Metrics::default());
    let stop = CancellationToken::new();
    let writing = tokio::spawn(writer.run(verdicts, stop.clone()));
    time::sleep(long).await;
    stop.cancel();
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_gets_better_is_asked_ever_more_rarely() {
    let refused_writes: Vec<_> =
        (0..2000).map(|n| if n % 2 == 0 { Trouble::None } else { Trouble::Refused(409) }).collect();
    for troubles in [
        vec![Trouble::Refused(500); 2000],
        vec![Trouble::Refused(403); 2000],
        vec![Trouble::RetryAfter(429, 0); 2000],
        vec![Trouble::AnswerCut; 2000],
        vec![Trouble::Hang; 2000],
        refused_writes,
    ] {
        let server = ApiServer::start(json!([]), &troubles).await;
        writes_for(&server, Duration::from_hours(1)).await;
        let requests = server.requests().len();
        // Waits double from half a second to a minute, less up to a half by chance: some 80
        // attempts an hour, at most 128, of one or two requests, and a few quick ones after a
        // conflict.
        assert!((60..=266).contains(&requests), "{requests} for {:?}", troubles[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_gets_it() {
    let troubles = vec![Trouble::RetryAfter(429, 50); 2000];
    let server = ApiServer::start(json!([]), &troubles).await;
    writes_for(&server, Duration::from_hours(1)).await;
    let requests = server.requests().len();
    assert!((50..=73).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_connection_that_is_never_answered_is_closed_before_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let client = cluster::connect(kube::Config::new(url)).unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let (report, mut reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            report.send(open.fetch_add(1, Ordering::Relaxed) + 1).unwrap();
            let open = Arc::clone(&open);
            tokio::spawn(async move {
                // Reads, says nothing, and sees the other side hang up.
                while stream.read_u8().await.is_ok() {}
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });

    let (publisher, verdicts) = verdicts::channel();
    publisher.publish(CONDITION, &verdict(true));
    let api = node_api(client, Duration::from_millis(50));
    let pause = Duration::from_millis(50);
    let backoff = BackoffRange { first: pause, longest: pause };
    let timing = Timing { backoff, propagation: Duration::ZERO, ..Timing::default() };
    let (_heartbeat, every) = watch::channel(Duration::from_mins(5));
    let writer = Writer::new(api, timing, every, Metrics::default());
    let stop = CancellationToken::new();
    let writing = tokio::spawn(writer.run(verdicts, stop.clone()));
    for _ in 0..10 {
        let open = in_time(reports.recv()).await.unwrap();
        // One may still be on its way to being closed.
        assert!(open <= 2, "{open} connections at once");
    }
    stop.cancel();
    in_time(writing).await.unwrap();
}
