//! A reporter that follows its configuration and the labels of its Node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use node_readiness_reporter::{
    FatalError,
    configuration::Source,
    identity::Identity,
    run,
    settings::{MetricsEndpoint, Settings, Work},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::{ApiServer, Trouble},
    in_time,
    metrics::{ask, free},
    site::{Reply, Site},
    writing::{client, is, settings},
};

/// A reporter at work.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), FatalError>>,
}

impl Running {
    async fn stopped(self) {
        self.stop.cancel();
        in_time(self.task).await.unwrap().unwrap();
    }
}

/// A reporter that follows the server's ConfigMap.
fn following() -> Settings {
    let source = Source {
        namespace: "reporters".to_owned(),
        name: "reporter".to_owned(),
        host_root: "/host".into(),
        mounted: Vec::new(),
        address: None,
    };
    Settings { work: Work::Followed(source), ..settings([]) }
}

fn start(server: &ApiServer, settings: Settings) -> Running {
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(settings, client(server), stop.clone()));
    Running { stop, task }
}

/// A probe of a path of the site that is decided at once.
fn probe(condition: &str, site: &Site, path: &str) -> Value {
    json!({
        "conditionType": condition, "httpGet": {"port": site.port, "path": path},
        "periodSeconds": 1, "failureThreshold": 1,
    })
}

/// A rule for nodes with this label.
fn rule(name: &str, label: &str, probes: &[Value]) -> Value {
    json!({
        "name": name, "uid": name, "heartbeatSeconds": 300, "probes": probes,
        "nodeSelector": {"matchExpressions": [{"key": label, "operator": "Exists"}]},
    })
}

fn config(rules: &[Value]) -> String {
    json!({"rules": rules}).to_string()
}

/// A site where `/good` answers well and everything else does not.
async fn site() -> Site {
    Site::start(|path| Reply::status(if path == "/good" { 200 } else { 503 })).await
}

#[tokio::test]
async fn a_configuration_is_applied_in_place_and_labels_decide_which_rules_apply() {
    let (site, server) = (site().await, ApiServer::start(json!([]), &[]).await);
    server.label(&json!({"a": ""}));
    let running = start(&server, following());
    let old = rule("old", "a", &[probe("X", &site, "/good")]);
    let young = rule("young", "b", &[probe("X", &site, "/bad"), probe("Y", &site, "/bad")]);
    server.configure(&config(&[old.clone(), young.clone()]));
    server.condition("X", is("True")).await;

    // The node moves from one rule to the other, and back into both.
    server.label(&json!({"b": ""}));
    server.condition("X", is("False")).await;
    server.condition("Y", is("False")).await;
    server.label(&json!({"a": "", "b": ""}));
    server.condition("X", is("True")).await;

    // The older rule's set writes the condition now.
    let mut foreign = rule("old", "a", &[]);
    foreign["writtenByOtherSet"] = json!(["X"]);
    let edited = rule("young", "b", &[probe("X", &site, "/bad"), probe("Y", &site, "/good")]);
    server.configure(&config(&[foreign, edited]));
    server.condition("Y", is("True")).await;
    server.condition("X", is("True")).await;
    running.stopped().await;
}

#[tokio::test]
async fn a_probe_that_did_not_change_keeps_its_count_of_failures() {
    let (count, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, shown) = (Arc::clone(&count), Arc::clone(&seen));
    let site = Site::start(move |path| {
        if path == "/counted" {
            counted.fetch_add(1, Ordering::Relaxed);
        } else {
            shown.fetch_add(1, Ordering::Relaxed);
        }
        Reply::status(503)
    })
    .await;
    let server = ApiServer::start(json!([]), &[]).await;
    server.label(&json!({"a": ""}));
    let mut failing = probe("Counted", &site, "/counted");
    failing["failureThreshold"] = json!(4);
    let configured = |path: &str| {
        let other = rule("other", "a", &[probe("Other", &site, path)]);
        config(&[rule("counted", "a", std::slice::from_ref(&failing)), other])
    };
    server.configure(&configured("/0"));
    let running = start(&server, following());
    // Edits of the other rule come faster than the threshold is reached.
    for edit in 1..=6 {
        let before = count.load(Ordering::Relaxed);
        in_time(async {
            while count.load(Ordering::Relaxed) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server.configure(&configured(&format!("/{edit}")));
    }
    server.condition("Counted", is("False")).await;
    assert!(count.load(Ordering::Relaxed) <= 8, "the count began anew");
    assert!(seen.load(Ordering::Relaxed) >= 6, "the edits were not applied");
    running.stopped().await;
}

#[tokio::test]
async fn an_unusable_configuration_leaves_the_last_one_in_force_and_shows_in_the_metrics() {
    let (site, server) = (site().await, ApiServer::start(json!([]), &[]).await);
    server.label(&json!({"a": ""}));
    let address = free().await;
    let metrics = Some(MetricsEndpoint { address, setting: "--metrics-port" });
    let running = start(&server, Settings { metrics, ..following() });
    let shows = async |value: &str| {
        let line = format!("node_readiness_reporter_config_last_reload_successful {value}");
        in_time(async { while !ask(address, "GET /metrics").await.contains(&line) {} }).await;
    };
    shows("0").await;
    server.configure(&config(&[rule("a", "a", &[probe("X", &site, "/good")])]));
    server.condition("X", is("True")).await;
    shows("1").await;
    let mut no_period = probe("X", &site, "/bad");
    no_period["periodSeconds"] = json!(0);
    for unusable in ["", "{}", r#"{"rules":[],"more":1}"#, &config(&[rule("a", "a", &[no_period])])]
    {
        server.configure(unusable);
        shows("0").await;
        server.configure(&config(&[rule("a", "a", &[probe("X", &site, "/good")])]));
        shows("1").await;
    }
    server.configure("");
    shows("0").await;
    assert_eq!(server.conversation(), "GET PUT", "the condition did not change");
    server.configure(&config(&[rule("a", "a", &[probe("X", &site, "/bad")])]));
    server.condition("X", is("False")).await;
    running.stopped().await;
}

#[tokio::test]
async fn an_outage_and_a_deleted_config_map_change_nothing() {
    let healthy = Arc::new(AtomicBool::new(true));
    let answer = Arc::clone(&healthy);
    let status = move || if answer.load(Ordering::Relaxed) { 200 } else { 503 };
    let site = Site::start(move |_| Reply::status(status())).await;
    let server = ApiServer::start(json!([]), &[]).await;
    server.label(&json!({"a": ""}));
    server.configure(&config(&[rule("a", "a", &[probe("X", &site, "/")])]));
    let running = start(&server, following());
    server.condition("X", is("True")).await;

    server.delete_config();
    server.end_watches();
    healthy.store(false, Ordering::Relaxed);
    server.condition("X", is("False")).await;

    // Both watches are refused twice and then work again.
    server.trouble(&[Trouble::Refused(500); 4]);
    server.end_watches();
    healthy.store(true, Ordering::Relaxed);
    server.condition("X", is("True")).await;
    server.configure(&config(&[rule("a", "a", &[probe("Y", &site, "/")])]));
    server.condition("Y", is("True")).await;
    running.stopped().await;
}

#[tokio::test]
async fn a_node_that_leaves_all_rules_keeps_its_conditions_and_no_request_is_made() {
    let (site, server) = (site().await, ApiServer::start(json!([]), &[]).await);
    server.label(&json!({"a": ""}));
    let mut rule = rule("a", "a", &[probe("X", &site, "/good")]);
    // With the jitter a heartbeat is due within this test.
    rule["heartbeatSeconds"] = json!(1);
    server.configure(&config(&[rule]));
    let running = start(&server, following());
    let first = server.condition("X", is("True")).await;
    server.condition("X", |now| now["lastHeartbeatTime"] != first["lastHeartbeatTime"]).await;
    server.label(&json!({}));
    let mut site = site;
    // Connections end until the probe has stopped.
    while tokio::time::timeout(Duration::from_secs(2), site.connection_ended()).await.is_ok() {}
    let (last, requests) = (server.node(), server.requests().len());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.node(), last);
    assert_eq!(server.requests().len(), requests);
    running.stopped().await;
}

#[tokio::test]
async fn requests_do_not_grow_with_rules_and_only_the_config_map_is_watched_as_itself() {
    for rules in [1, 10] {
        let (site, server) = (site().await, ApiServer::start(json!([]), &[]).await);
        server.label(&json!({"a": ""}));
        let rules: Vec<_> = (0..rules)
            .map(|number| {
                rule(&format!("r{number}"), "a", &[probe(&format!("C{number}"), &site, "/good")])
            })
            .collect();
        server.configure(&config(&rules));
        let running = start(&server, following());
        for number in 0..rules.len() {
            server.condition(&format!("C{number}"), is("True")).await;
        }
        assert_eq!(server.conversation(), "GET PUT");
        let requests = server.requests();
        let (watches, others): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(crate::api_server::Request::is_watch);
        let targets: Vec<_> = watches
            .iter()
            .map(|watch| {
                (watch.uri.path().to_owned(), watch.headers.get("impersonate-user").is_some())
            })
            .collect();
        let expected = [
            ("/api/v1/namespaces/reporters/configmaps".to_owned(), false),
            ("/api/v1/nodes".to_owned(), true),
        ];
        for watch in expected {
            assert!(targets.contains(&watch), "{targets:?}");
        }
        assert_eq!(watches.len(), 2, "{targets:?}");
        for watch in &watches {
            let query = watch.uri.query().unwrap();
            assert!(query.contains("fieldSelector=metadata.name%3D"), "{query}");
            assert!(!query.contains("resourceVersion"), "{query}");
        }
        assert!(
            others
                .iter()
                .all(|request| request.headers["impersonate-user"] == "system:node:node-a")
        );
        running.stopped().await;
    }
}

#[tokio::test]
async fn without_impersonation_the_node_is_read_and_not_watched() {
    let (site, server) = (site().await, ApiServer::start(json!([]), &[]).await);
    server.label(&json!({"a": ""}));
    server.configure(&config(&[rule("a", "a", &[probe("X", &site, "/good")])]));
    let identity = Identity::ServiceAccount;
    let running = start(&server, Settings { identity, ..following() });
    server.condition("X", is("True")).await;
    assert_eq!(server.conversation(), "GET GET PUT");
    let watches: Vec<_> =
        server.requests().into_iter().filter(crate::api_server::Request::is_watch).collect();
    assert_eq!(watches.len(), 1);
    assert!(watches[0].uri.path().ends_with("/configmaps"), "{watches:?}");
    running.stopped().await;
}

#[tokio::test]
async fn a_probe_of_a_directory_that_is_not_mounted_waits_for_the_next_pod() {
    let (site, server) = (site().await, ApiServer::start(json!([]), &[]).await);
    server.label(&json!({"a": ""}));
    let unmounted = json!({"conditionType": "F", "file": {"path": "/run/new/ready"}});
    server.configure(&config(&[rule("a", "a", &[unmounted, probe("X", &site, "/good")])]));
    let running = start(&server, following());
    server.condition("X", is("True")).await;
    let conditions = server.node()["status"]["conditions"].clone();
    assert_eq!(conditions.as_array().unwrap().len(), 1, "{conditions}");
    running.stopped().await;
}
