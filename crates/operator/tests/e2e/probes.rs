//! Tests every kind of probe on a real node. Reporters that the operator generates probe test servers that are ready,
//! fail or hang. These tests show that the generated pods have all that probes need. The reporter's own tests cover the
//! other failures of each kind on loopback.

use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, image};
use crate::metrics::scrape;
use crate::reporters::{Report, Rule, await_reports};
use crate::test_servers::TestServers;

const NODE: &str = "node-a";
const METRICS: u16 = 9190;

/// The behaviors of the test servers in a round, and the expected reports.
struct Round {
    behaviors: &'static [(&'static str, &'static str)],
    reported: Vec<(&'static str, Report)>,
}

/// Returns probes of all kinds except exec and unixSocket, which need other settings of the pod.
fn every_kind() -> [(&'static str, Value); 7] {
    [
        ("Http", json!({"httpGet": {"port": 9181, "bodyMatches": "^state: ready"}})),
        ("Https", json!({"httpGet": {"port": 9182, "scheme": "HTTPS"}})),
        ("Tcp", json!({"tcpSocket": {"port": 9183}})),
        ("Grpc", json!({"grpc": {"port": 9184}})),
        ("Exec", json!({"exec": {"command": ["/node-readiness-testkit", "exec"]}})),
        ("Unix", json!({"unixSocket": {"path": "/run/e2e/agent.sock"}})),
        ("File", json!({"file": {"path": "/run/e2e/*.ready", "maxAgeSeconds": 600}})),
    ]
}

const ALL_READY: &[(&str, &str)] = &[
    ("http", "ready"),
    ("https", "ready"),
    ("tcp", "ready"),
    ("grpc", "ready"),
    ("exec", "ready"),
    ("file", "ready"),
];

fn ready() -> Round {
    Round {
        behaviors: ALL_READY,
        reported: vec![
            ("Http", ok("httpGet http://localhost:9181/: status 200")),
            ("Https", ok("httpGet https://localhost:9182/: status 200")),
            ("Tcp", ok("tcpSocket localhost:9183: connected")),
            ("Grpc", ok("grpc localhost:9184: SERVING")),
            ("Exec", ok("exec /node-readiness-testkit: exit status 0")),
            ("File", ok("file /run/e2e/*.ready: found")),
            // The socket belongs to root, and the reporter does not run as root.
            ("Unix", failed("unixSocket /run/e2e/agent.sock: permission denied")),
        ],
    }
}

/// Returns the rounds with failures. Between two of them all test servers are ready again, because a reporter
/// delays the write of a changed message whose status is unchanged.
fn bad_rounds() -> [Round; 4] {
    let fails = Round {
        behaviors: &[
            ("http", "starting"),
            ("https", "failing"),
            ("tcp", "gone"),
            ("grpc", "failing"),
            ("exec", "failing"),
            ("file", "failing"),
        ],
        reported: vec![
            ("Http", failed("httpGet http://localhost:9181/: the body does not match")),
            ("Https", failed("httpGet https://localhost:9182/: status 503")),
            ("Tcp", failed("tcpSocket localhost:9183: connection refused")),
            ("Grpc", failed("grpc localhost:9184: NOT_SERVING")),
            ("Exec", failed("exec /node-readiness-testkit: exit status 3")),
            ("File", failed("file /run/e2e/*.ready: not modified within the last 600s")),
        ],
    };
    let hangs = Round {
        behaviors: &[
            ("http", "hanging"),
            ("https", "hanging"),
            ("grpc", "hanging"),
            ("exec", "hanging"),
            ("file", "gone"),
        ],
        reported: vec![
            ("Http", timed_out("httpGet http://localhost:9181/: no complete answer within 1s")),
            ("Https", timed_out("httpGet https://localhost:9182/: no complete answer within 1s")),
            ("Grpc", timed_out("grpc localhost:9184: no complete answer within 1s")),
            ("Exec", timed_out("exec /node-readiness-testkit: not ended within 1s")),
            ("File", failed("file /run/e2e/*.ready: no such file")),
            // A probe that hangs does not delay other probes.
            ("Tcp", ok("tcpSocket localhost:9183: connected")),
        ],
    };
    let garbage = Round {
        behaviors: &[("http", "garbage"), ("https", "plain"), ("grpc", "garbage")],
        reported: vec![
            ("Http", failed("httpGet http://localhost:9181/: not a valid HTTP answer")),
            ("Https", failed("httpGet https://localhost:9182/: TLS handshake failed")),
            ("Grpc", failed("grpc localhost:9184: not a valid gRPC answer")),
        ],
    };
    let never_ends = Round {
        behaviors: &[("http", "slow"), ("https", "huge"), ("grpc", "gone"), ("exec", "huge")],
        reported: vec![
            ("Http", timed_out("httpGet http://localhost:9181/: no complete answer within 1s")),
            // As with a Pod's probe, the beginning of the answer is enough if the probe has no pattern.
            ("Https", ok("httpGet https://localhost:9182/: status 200")),
            ("Grpc", failed("grpc localhost:9184: connection refused")),
            ("Exec", timed_out("exec /node-readiness-testkit: not ended within 1s")),
        ],
    };
    [fails, hangs, garbage, never_ends]
}

#[test]
fn every_kind_of_probe_reports_the_behavior_of_its_test_server() {
    let mut exclusive = Exclusive::with_operator();
    let test_servers = TestServers::start(&mut exclusive, NODE);
    // This image has the program of the exec probe, and the reporter is copied into its container.
    let mut rule = Rule::of_node("every-kind", NODE).reporter("image", image("testkit"));
    rule = rule.reporter("metricsPort", METRICS);
    for (condition, handler) in every_kind() {
        rule = rule.probe(condition, &handler);
    }
    rule.apply(&mut exclusive);

    play(&rule, &test_servers, &ready());
    for bad in bad_rounds() {
        play(&rule, &test_servers, &bad);
        play(&rule, &test_servers, &ready());
    }
}

/// Plays a round, and checks that the reporter writes nothing more after it has reported all results.
fn play(rule: &Rule, test_servers: &TestServers, round: &Round) {
    test_servers.be(round.behaviors);
    await_reports(NODE, &round.reported);
    let (before, reported) = (totals(), rule.conditions());
    eventually("the reporter ran every probe a few times more", || {
        (totals().checks > before.checks + 20).then_some(())
    });
    assert_eq!(totals().writes, before.writes, "the reporter wrote although no result changed");
    assert_eq!(rule.conditions(), reported);
}

/// The reporter's counters.
struct Totals {
    checks: u64,
    writes: u64,
}

fn totals() -> Totals {
    let samples = eventually("the reporter serves metrics", || scrape(NODE, METRICS));
    let sum = |name: &str| {
        samples.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, count)| count).sum()
    };
    Totals { checks: sum("checks_total"), writes: sum("condition_writes_total") }
}

#[test]
fn a_reporter_that_runs_as_root_may_connect_to_roots_sockets() {
    let mut exclusive = Exclusive::with_operator();
    let test_servers = TestServers::start(&mut exclusive, NODE);
    let rule = Rule::of_node("as-root", NODE)
        .reporter("runAsUser", 0)
        .probe("RootsSocket", &json!({"unixSocket": {"path": "/run/e2e/agent.sock"}}));
    rule.apply(&mut exclusive);

    let connected = ok("unixSocket /run/e2e/agent.sock: connected");
    rule.await_reported("RootsSocket", &connected);
    for (behavior, found) in [("gone", "no such file"), ("failing", "not a socket")] {
        test_servers.be(&[("unix", behavior)]);
        let message = format!("unixSocket /run/e2e/agent.sock: {found}");
        rule.await_reported("RootsSocket", &failed(&message));
        test_servers.be(&[("unix", "ready")]);
        rule.await_reported("RootsSocket", &connected);
    }
}

fn ok(message: &str) -> Report {
    ("True", "ProbeSucceeded", message.to_owned())
}

fn failed(message: &str) -> Report {
    ("False", "ProbeFailed", message.to_owned())
}

fn timed_out(message: &str) -> Report {
    ("False", "ProbeTimedOut", message.to_owned())
}
