//! The operator as a process: its messages when it cannot work.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn operator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-readiness-operator"));
    command
        .env_clear()
        .args(["--reporter-image=reporter:test", "--health-probe-bind-address=0"])
        .args(arguments);
    command
}

fn scratch(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Returns a kubeconfig for a port on which no server listens.
fn unreachable() -> String {
    let config = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.96.255.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    scratch("unreachable.kubeconfig", config).display().to_string()
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn without_a_cluster_the_operator_ends_with_one_line_that_names_the_remedy() {
    let said = failed(&operator(&[]).env("HOME", "/nonexistent").output().unwrap());
    assert!(said.contains("--kubeconfig"), "{said}");
}

#[test]
fn the_error_names_a_missing_kubeconfig() {
    let said = failed(&operator(&["--kubeconfig=/nonexistent/config"]).output().unwrap());
    assert!(said.contains("--kubeconfig /nonexistent/config"), "{said}");
}

#[test]
fn leader_election_outside_a_pod_requires_the_flag_of_the_namespace() {
    let operator = operator(&["--leader-elect", "--kubeconfig", &unreachable()]).output();
    let said = String::from_utf8(operator.unwrap().stderr).unwrap();
    assert!(said.lines().last().unwrap().contains("--leader-election-namespace"), "{said}");
}

#[test]
fn the_error_for_a_wrong_address_names_its_flag() {
    let output = operator(&["--health-probe-bind-address=nowhere"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--health-probe-bind-address") && said.contains(":PORT"), "{said}");
}

#[test]
fn an_unreachable_api_server_is_logged_and_retried() {
    let mut command = operator(&["--kubeconfig", &unreachable()]);
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let said = BufReader::new(running.0.stderr.take().unwrap());
    let mut failures =
        said.lines().map(Result::unwrap).filter(|l| l.contains("cannot watch NodeReadinessRules"));
    let first = failures.next().unwrap();
    assert!(first.contains("retrying") && first.contains("Connection refused"), "{first}");
    failures.next().expect("the operator retries");
}

#[test]
fn the_operator_is_healthy_and_not_ready_before_its_caches_have_synced() {
    // Only this test uses this address of the loopback network.
    let address = "127.96.255.2:18081";
    let mut command = operator(&["--kubeconfig", &unreachable()]);
    command.arg(format!("--health-probe-bind-address={address}"));
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(running.0.stderr.take().unwrap());
    await_line(&mut log, "cannot watch NodeReadinessRules");
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 503"));
}

#[test]
fn metrics_are_served_over_http_on_request() {
    let address = "127.96.255.3:18080";
    let mut command = operator(&["-kubeconfig", &unreachable(), "-metrics-secure=false"]);
    command.args(["-metrics-bind-address", address]);
    let _running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    let answer = get(address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\nnode_readiness_rules_total 0\n"), "{answer}");
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
}

#[test]
fn the_error_for_a_missing_certificate_names_its_flag() {
    let mut command = operator(&["--kubeconfig", &unreachable()]);
    command.args(["--metrics-bind-address=127.96.255.4:18443", "--metrics-cert-dir=/nonexistent"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("--metrics-cert-dir: /nonexistent/tls.crt"), "{said}");
}

#[test]
fn a_flag_of_the_go_project_without_effect_is_logged_once() {
    let mut command = operator(&["--kubeconfig", &unreachable()]);
    command.args(["-kube-api-qps", "-1", "-enable-webhook"]);
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(running.0.stderr.take().unwrap());
    let until = |line: &String| !line.contains("cannot watch NodeReadinessRules");
    let said: Vec<_> = log.lines().map(Result::unwrap).take_while(until).collect();
    for flag in ["--kube-api-qps", "--enable-webhook"] {
        let lines = said.iter().filter(|line| line.contains(flag)).collect::<Vec<_>>();
        assert!(lines.len() == 1 && lines[0].contains("is ignored: "), "{said:?}");
    }
}

#[test]
fn the_operator_ends_on_sigterm_before_it_has_started_to_reconcile() {
    let mut command = operator(&["--kubeconfig", &unreachable()]);
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(running.0.stderr.take().unwrap());
    await_line(&mut log, "cannot watch NodeReadinessRules");
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{status}");
}

fn await_line(log: &mut BufReader<ChildStderr>, text: &str) {
    let found = log.lines().map(Result::unwrap).any(|line| line.contains(text));
    assert!(found, "the process ended without logging {text:?}");
}

/// Sends a request, and retries until a server listens.
pub fn get(address: &str, path: &str) -> String {
    let end = Instant::now() + Duration::from_mins(1);
    let mut connection = loop {
        match TcpStream::connect(address) {
            Ok(connection) => break connection,
            Err(error) => assert!(Instant::now() < end, "{address}: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}
