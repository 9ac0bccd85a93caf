//! The writer against an API server that is not always helpful.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use node_readiness_reporter::{
    ApiError, BackoffRange,
    assignment::Assignment,
    cluster,
    identity::Identity,
    metrics::Metrics,
    probe::{Check, HttpCheck, Outcome, ReasonStyle},
    run,
    settings::{ProbeSettings, Settings, Work},
    threshold::{ThresholdCounter, Thresholds, Verdict},
    verdicts::{self, Publisher, Verdicts},
    writer::{NodeApi, Pass, Timing, Writer},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::{ApiServer, Trouble},
    in_time,
    site::{Reply, Site},
};

pub(crate) const CONDITION: &str = "example.com/Ready";

/// As in real use, but without its patience.
pub(crate) const TIMING: Timing = Timing {
    detail: Duration::from_secs(30),
    backoff: BackoffRange { first: Duration::from_millis(1), longest: Duration::from_millis(10) },
    propagation: Duration::from_millis(20),
};

const HEARTBEAT: Duration = Duration::from_mins(5);

/// A reporter that runs these probes as its node.
pub(crate) fn settings(probes: impl IntoIterator<Item = ProbeSettings>) -> Settings {
    let probes = probes.into_iter().map(|probe| (probe.condition_type.clone(), probe)).collect();
    Settings {
        node: "node-a".into(),
        identity: Identity::Node("node-a".into()),
        metrics: None,
        work: Work::Fixed(Assignment { probes, heartbeat: HEARTBEAT, ..Assignment::default() }),
    }
}

pub(crate) fn client(server: &ApiServer) -> kube::Client {
    let url = format!("http://127.0.0.1:{}", server.port).parse().unwrap();
    cluster::connect(kube::Config::new(url)).unwrap()
}

pub(crate) fn node_api(client: kube::Client, deadline: Duration) -> NodeApi {
    NodeApi::new(client, "node-a".into(), Identity::Node("node-a".into()), deadline)
}

/// Time that a request may take: longer than a busy machine makes one take that is answered.
const DEADLINE: Duration = Duration::from_secs(1);

/// The heartbeat of a writer, which may change.
fn every(heartbeat: Duration) -> (watch::Sender<Duration>, watch::Receiver<Duration>) {
    watch::channel(heartbeat)
}

pub(crate) fn writer(server: &ApiServer) -> Writer {
    let api = node_api(client(server), DEADLINE);
    Writer::new(api, TIMING, every(HEARTBEAT).1, Metrics::default())
}

pub(crate) fn verdict(healthy: bool) -> Verdict {
    let outcome = Outcome { healthy, reason: "Reason", message: "message".into() };
    ThresholdCounter::new(Thresholds { success: 1, failure: 1 }).observe(outcome).unwrap()
}

fn wanted(healthy: bool) -> Verdicts {
    Verdicts::from([(CONDITION.to_owned(), verdict(healthy))])
}

/// The condition as an earlier reporter left it.
fn existing(status: &str, heartbeat_age: Duration) -> Value {
    json!([{
        "type": CONDITION, "status": status, "reason": "Reason", "message": "message",
        "lastHeartbeatTime": (Timestamp::now() - heartbeat_age).to_string(),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }])
}

/// A writer at work.
struct Running {
    publisher: Publisher,
    heartbeat: watch::Sender<Duration>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn running(server: &ApiServer, timing: Timing) -> Running {
    let (publisher, verdicts) = verdicts::channel();
    let (heartbeat, beats) = every(HEARTBEAT);
    let writer = Writer::new(node_api(client(server), DEADLINE), timing, beats, Metrics::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(writer.run(verdicts, stop.clone()));
    Running { publisher, heartbeat, stop, task }
}

impl Running {
    fn publish(&self, condition_type: &str, healthy: bool) {
        self.publisher.publish(condition_type, &verdict(healthy));
    }

    async fn stopped(self) {
        self.stop.cancel();
        in_time(self.task).await.unwrap();
    }
}

pub(crate) fn is(status: &str) -> impl Fn(&Value) -> bool {
    move |condition| condition["status"] == status
}

#[tokio::test]
async fn a_verdict_is_written_and_everything_else_kept() {
    let server =
        ApiServer::start(json!([{"type": "Ready", "status": "True", "new": 1}]), &[]).await;
    let before = server.node();
    let pass = writer(&server).pass(&wanted(true), &CancellationToken::new()).await.unwrap();
    assert_eq!(pass, Pass::Written);
    assert_eq!(server.conversation(), "GET PUT");
    let mut after = server.node();
    let condition = after["status"]["conditions"].as_array_mut().unwrap().pop().unwrap();
    assert_eq!(condition["type"], CONDITION);
    assert_eq!(condition["status"], "True");
    assert_eq!(condition["lastHeartbeatTime"], condition["lastTransitionTime"]);
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    assert_eq!(after, before);
}

#[tokio::test]
async fn the_only_impersonation_header_is_the_user() {
    let server = ApiServer::start(json!([]), &[]).await;
    writer(&server).pass(&wanted(true), &CancellationToken::new()).await.unwrap();
    let requests = server.requests();
    let uris: Vec<_> = requests.iter().map(|request| request.uri.path()).collect();
    assert_eq!(uris, ["/api/v1/nodes/node-a", "/api/v1/nodes/node-a/status"]);
    for request in requests {
        let impersonation: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("impersonate"))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(impersonation, [("impersonate-user", "system:node:node-a")]);
        let agent = request.headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("node-readiness-reporter/"), "{agent}");
    }
}

#[tokio::test]
async fn without_impersonation_there_is_no_such_header() {
    let server = ApiServer::start(json!([]), &[]).await;
    let identity = Identity::ServiceAccount;
    let api = NodeApi::new(client(&server), "node-a".into(), identity, Duration::from_secs(5));
    api.get().await.unwrap();
    let headers = &server.requests()[0].headers;
    assert!(headers.keys().all(|name| !name.as_str().starts_with("impersonate")), "{headers:?}");
}

/// The node may have been rebooted: until then the operator does not count what was reported before.
#[tokio::test]
async fn conditions_of_an_earlier_process_are_written_again_once() {
    let server = ApiServer::start(existing("True", Duration::from_secs(100)), &[]).await;
    let running = running(&server, TIMING);
    running.publish(CONDITION, true);
    let anew = |condition: &Value| {
        let heartbeat = condition["lastHeartbeatTime"].as_str().unwrap();
        heartbeat.parse::<Timestamp>().unwrap() > Timestamp::now() - Duration::from_mins(1)
    };
    let condition = in_time(server.condition(CONDITION, anew)).await;
    assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
    running.stopped().await;
    assert_eq!(server.conversation(), "GET PUT");
}

#[tokio::test]
async fn a_fresh_heartbeat_is_not_renewed() {
    let server = ApiServer::start(existing("True", Duration::from_secs(290)), &[]).await;
    let mut writer = writer(&server);
    let stop = CancellationToken::new();
    assert_eq!(writer.pass(&wanted(true), &stop).await.unwrap(), Pass::Written);
    assert_eq!(writer.pass(&wanted(true), &stop).await.unwrap(), Pass::Unchanged);
    assert_eq!(server.conversation(), "GET PUT GET");
    let condition = &server.node()["status"]["conditions"][0];
    assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
}

#[tokio::test]
async fn heartbeats_go_on_although_nothing_changes() {
    let server = ApiServer::start(json!([]), &[]).await;
    let running = running(&server, TIMING);
    running.publish(CONDITION, true);
    let first = server.condition(CONDITION, is("True")).await;
    // A shorter heartbeat takes effect at once.
    running.heartbeat.send_replace(Duration::from_millis(100));
    let beats = |condition: &Value| {
        condition["lastHeartbeatTime"] != first["lastHeartbeatTime"]
            && condition["lastTransitionTime"] == first["lastTransitionTime"]
    };
    server.condition(CONDITION, beats).await;
    running.stopped().await;
}

#[tokio::test]
async fn a_retracted_verdict_leaves_its_condition_as_it_is() {
    let server = ApiServer::start(json!([]), &[]).await;
    let mut writer = writer(&server);
    let stop = CancellationToken::new();
    let mut both = wanted(true);
    both.insert("example.com/Other".to_owned(), verdict(true));
    assert_eq!(writer.pass(&both, &stop).await.unwrap(), Pass::Written);
    let before = server.condition("example.com/Other", is("True")).await;
    assert_eq!(writer.pass(&wanted(false), &stop).await.unwrap(), Pass::Written);
    assert_eq!(server.condition("example.com/Other", |_| true).await, before);
    // With nothing to write, nothing is read either.
    assert_eq!(writer.pass(&Verdicts::new(), &stop).await.unwrap(), Pass::Unchanged);
    assert_eq!(server.conversation(), "GET PUT GET PUT");
}

#[tokio::test]
async fn verdicts_that_change_together_share_a_write() {
    let server = ApiServer::start(json!([]), &[]).await;
    let running = running(&server, TIMING);
    for name in ["a", "b", "c"] {
        running.publish(name, true);
    }
    for name in ["a", "b", "c"] {
        server.condition(name, is("True")).await;
    }
    assert_eq!(server.conversation(), "GET PUT");
    running.stopped().await;
}

#[tokio::test]
async fn a_write_survives_every_trouble() {
    for (troubles, conversation) in [
        (&[Trouble::None, Trouble::Refused(409)][..], "GET PUT GET PUT"),
        (&[Trouble::Refused(500), Trouble::Refused(503)], "GET GET GET PUT"),
        (&[Trouble::RetryAfter(429, 0), Trouble::RetryAfter(429, 1)], "GET GET GET PUT"),
        (&[Trouble::None, Trouble::Refused(504)], "GET PUT GET PUT"),
        (
            &[Trouble::Refused(401), Trouble::Refused(403), Trouble::Refused(404)],
            "GET GET GET GET PUT",
        ),
        (&[Trouble::Hang], "GET GET PUT"),
        (&[Trouble::None, Trouble::Hang], "GET PUT GET PUT"),
        (&[Trouble::AnswerCut], "GET GET PUT"),
        (&[Trouble::AnswerStalls], "GET GET PUT"),
        (&[Trouble::AnswerEndless], "GET GET PUT"),
    ] {
        let server = ApiServer::start(json!([]), troubles).await;
        let running = running(&server, TIMING);
        running.publish(CONDITION, true);
        server.condition(CONDITION, is("True")).await;
        running.stopped().await;
        assert_eq!(server.conversation(), conversation, "{troubles:?}");
    }
}

#[tokio::test]
async fn a_write_whose_answer_did_not_arrive_is_not_doubled() {
    for trouble in [Trouble::AnswerLost, Trouble::AnswerCut, Trouble::AnswerStalls] {
        let server = ApiServer::start(json!([]), &[Trouble::None, trouble]).await;
        let mut writer = writer(&server);
        let stop = CancellationToken::new();
        let error = writer.pass(&wanted(true), &stop).await.unwrap_err();
        assert!(matches!(error, ApiError::Deadline(_) | ApiError::Transport(_)), "{error}");
        assert_eq!(writer.pass(&wanted(true), &stop).await.unwrap(), Pass::Unchanged);
        assert_eq!(server.conversation(), "GET PUT GET", "{trouble:?}");
    }
}

#[tokio::test]
async fn only_the_latest_verdict_is_written_after_an_outage() {
    let server = ApiServer::start(json!([]), &[Trouble::Refused(500); 5]).await;
    let backoff =
        BackoffRange { first: Duration::from_millis(50), longest: Duration::from_millis(50) };
    let running = running(&server, Timing { backoff, ..TIMING });
    for healthy in [true, false, true, false] {
        running.publish(CONDITION, healthy);
        tokio::task::yield_now().await;
    }
    let condition = server.condition(CONDITION, |_| true).await;
    assert_eq!(condition["status"], "False");
    assert_eq!(server.conversation().matches("PUT").count(), 1);
    running.stopped().await;
}

#[tokio::test]
async fn an_unreachable_server_is_an_error_that_says_why() {
    let server = ApiServer::start(json!([]), &[]).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    let client = cluster::connect(kube::Config::new(url)).unwrap();
    let api = node_api(client, Duration::from_secs(5));
    let error = api.get().await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
    assert_eq!(server.conversation(), "");
}

#[tokio::test]
async fn nothing_is_begun_once_the_process_stops() {
    let server = ApiServer::start(json!([]), &[]).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let pass = writer(&server).pass(&wanted(true), &stop).await.unwrap();
    assert_eq!(pass, Pass::Stopped);
    assert_eq!(server.conversation(), "");
}

#[tokio::test]
async fn a_write_under_way_is_finished_when_the_process_stops() {
    let server = ApiServer::start(json!([]), &[Trouble::None, Trouble::Held]).await;
    let running = running(&server, TIMING);
    running.publish(CONDITION, true);
    server.requested(2).await;
    running.stop.cancel();
    server.release();
    running.stopped().await;
    assert_eq!(server.conversation(), "GET PUT");
    server.condition(CONDITION, is("True")).await;
}

#[tokio::test]
async fn only_results_of_probes_reach_the_node() {
    let healthy = Arc::new(AtomicBool::new(true));
    let answer = Arc::clone(&healthy);
    let mut site =
        Site::start(move |_| Reply::status(if answer.load(Ordering::Relaxed) { 200 } else { 503 }))
            .await;
    let server = ApiServer::start(json!([]), &[]).await;
    let stop = CancellationToken::new();
    let settings = settings([probe_of(&site)]);
    let task = tokio::spawn(run(settings, client(&server), stop.clone()));

    let condition = server.condition(CONDITION, is("True")).await;
    assert_eq!(condition["reason"], "ProbeSucceeded");
    for _ in 0..10 {
        in_time(site.connection_ended()).await;
    }
    assert_eq!(server.conversation(), "GET PUT", "no request while nothing changes");

    healthy.store(false, Ordering::Relaxed);
    let condition = server.condition(CONDITION, is("False")).await;
    assert_eq!(condition["reason"], "ProbeFailed");
    assert_eq!(server.conversation(), "GET PUT GET PUT");

    stop.cancel();
    in_time(task).await.unwrap().unwrap();
}

pub(crate) fn probe_of(site: &Site) -> ProbeSettings {
    ProbeSettings {
        condition_type: CONDITION.into(),
        check: Check::Http(HttpCheck {
            url: format!("http://localhost:{}/", site.port).parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: None,
            reason_style: ReasonStyle::PodProbe,
        }),
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(50),
        startup: None,
        timeout: Duration::from_secs(5),
        thresholds: Thresholds { success: 1, failure: 3 },
    }
}

#[tokio::test]
async fn a_reporter_stops_although_the_server_hangs() {
    let site = Site::start(|_| Reply::status(200)).await;
    let server = ApiServer::start(json!([]), &[Trouble::Hang]).await;
    let stop = CancellationToken::new();
    let settings = settings([probe_of(&site)]);
    let task = tokio::spawn(run(settings, client(&server), stop.clone()));
    server.requested(1).await;
    stop.cancel();
    in_time(task).await.unwrap().unwrap();
}
