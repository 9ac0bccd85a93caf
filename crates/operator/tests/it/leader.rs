//! Several operators, of which only the leader writes, even if it fails.
//!
//! Each is a process with its own gateway to a control plane on which no other client writes. A node's condition
//! changes all the time, so that the leader always has a write to send.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use node_readiness_api::{LEASE_NAME, NodeReadinessRule};
use node_readiness_engine::lease::{LANDING, RENEW_DEADLINE};
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::gateway::{Cut, Gateway, Write};
use crate::harness::{connect, install, poll};
use crate::process::get;

const NAMESPACE: &str = "nrr-system";

/// A control plane, for one test at a time.
struct Environment {
    administrator: Client,
    operator: Client,
    load: JoinHandle<()>,
    _exclusive: MutexGuard<'static, ()>,
}

impl Environment {
    async fn new() -> Self {
        static EXCLUSIVE: AsyncMutex<()> = AsyncMutex::const_new(());
        static OPERATOR: OnceLock<PathBuf> = OnceLock::new();
        let exclusive = EXCLUSIVE.lock().await;
        let file: PathBuf = std::env::var_os("NRR_TEST_LEASE_KUBECONFIG")
            .expect(
                "NRR_TEST_LEASE_KUBECONFIG must name a control plane's kubeconfig; run make test",
            )
            .into();
        let operator = OPERATOR.get_or_init(|| install(&file, "lease.kubeconfig"));
        let (administrator, operator) = (connect(&file).await, connect(operator).await);
        // The holder is an operator of the last test, which has ended.
        let leases: Api<Lease> = Api::namespaced(administrator.clone(), NAMESPACE);
        drop(leases.delete(LEASE_NAME, &DeleteParams::default()).await);
        let load = tokio::spawn(up_and_down(administrator.clone()));
        Self { administrator, operator, load, _exclusive: exclusive }
    }

    /// Starts an operator, and waits until it is ready.
    async fn operator(&self) -> Operator {
        let operator = Operator::start(self.operator.clone()).await;
        operator.until_ready().await;
        operator
    }

    /// Starts a leader and a standby.
    async fn leader_and_standby(&self) -> (Operator, Operator) {
        let leader = self.operator().await;
        leader.until_it_writes().await;
        let standby = self.operator().await;
        let before = leader.gateway.writes().len();
        leader
            .until("it keeps writing", |leader| leader.gateway.writes().len() > before + 10)
            .await;
        assert!(standby.gateway.writes().is_empty(), "{:?}", standby.gateway.writes());
        (leader, standby)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.load.abort();
    }
}

/// Makes a rule hold and release a node repeatedly.
async fn up_and_down(administrator: Client) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "swing"}});
    let rule = json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": "swing"},
        "spec": {
            "nodeSelector": {"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": "readiness.k8s.io/swing", "value": "", "effect": "NoSchedule"},
        },
    });
    let nodes: Api<Node> = Api::all(administrator.clone());
    let rules: Api<NodeReadinessRule> = Api::all(administrator);
    let apply = PatchParams::apply("test").force();
    nodes.patch("swing", &apply, &Patch::Apply(&node)).await.unwrap();
    rules.patch("swing", &apply, &Patch::Apply(&rule)).await.unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    for status in ["True", "False"].iter().cycle() {
        beat.tick().await;
        let condition = json!({
            "type": "example.com/Ready", "status": status, "reason": "Test", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        nodes.patch_status("swing", &PatchParams::default(), &patch).await.unwrap();
    }
}

/// An operator's process.
struct Operator {
    gateway: Gateway,
    health: String,
    process: Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Operator {
    async fn start(client: Client) -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(10);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let gateway = Gateway::start(client).await;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", gateway.address)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gateway-{number}"));
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        // Only this process uses this address of the loopback network.
        let health = format!("127.96.255.{number}:18081");
        let mut process = Command::new(env!("CARGO_BIN_EXE_node-readiness-operator"))
            .env_clear()
            .args(["--leader-elect", "--leader-election-namespace", NAMESPACE])
            .args(["--reporter-image=reporter:test", "--health-probe-bind-address", &health])
            .arg("--kubeconfig")
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            said.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        Self { gateway, health, process: Mutex::new(process), log }
    }

    /// Waits until this is true, and fails with the log of the process if it does not happen.
    async fn until(&self, what: &str, passes: impl Fn(&Self) -> bool) {
        let done = poll(async || passes(self).then_some(())).await;
        assert!(done.is_some(), "{what}: {:#?}", self.log.lock().unwrap());
    }

    async fn until_ready(&self) {
        let ready = poll(async || {
            let address = self.health.clone();
            let answer = spawn_blocking(move || get(&address, "/readyz")).await.unwrap();
            answer.starts_with("HTTP/1.1 200").then_some(())
        });
        assert!(ready.await.is_some(), "not ready: {:#?}", self.log.lock().unwrap());
    }

    /// Waits until the API server has answered a write, and returns the first.
    async fn until_it_writes(&self) -> Write {
        let first = |gateway: &Gateway| gateway.writes().into_iter().find(|w| w.answered.is_some());
        self.until("it writes", |operator| first(&operator.gateway).is_some()).await;
        first(&self.gateway).unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.lock().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    async fn ended(&self) -> ExitStatus {
        let ended = poll(async || self.process.lock().unwrap().try_wait().unwrap()).await;
        ended.unwrap_or_else(|| panic!("still there: {:#?}", self.log.lock().unwrap()))
    }

    fn said(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap();
        // An error means that the process has ended already.
        drop(process.kill());
        process.wait().unwrap();
    }
}

/// Checks that the last write of one operator ended before the first write of another, and returns the time between
/// them.
fn silence_between(first: &Operator, second: &Write) -> Duration {
    let writes = first.gateway.writes();
    let last = writes.iter().map(|write| write.answered.unwrap_or(write.at)).max().unwrap();
    let began = writes.iter().map(|write| write.at).max().unwrap();
    assert!(last < second.at, "both wrote: {last:?} {second:?} {:#?}", first.log.lock().unwrap());
    second.at - began
}

/// Prints a duration, which `cargo test -- --nocapture` shows.
fn measured(what: &str, time: Duration) {
    eprintln!("{what}: {time:.2?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_writes_nothing_and_takes_over_at_once_from_a_leader_that_receives_sigterm() {
    let environment = Environment::new().await;
    let (leader, standby) = environment.leader_and_standby().await;
    let asked = Instant::now();
    leader.signal("-TERM");
    let first = standby.until_it_writes().await;
    measured("first write of the standby after SIGTERM", first.at - asked);
    assert!(first.at - asked < Duration::from_secs(3), "{:?}", first.at - asked);
    assert!(leader.ended().await.success());
    silence_between(&leader, &first);
    let leases: Api<Lease> = Api::namespaced(environment.administrator.clone(), NAMESPACE);
    let lease = leases.get(LEASE_NAME).await.unwrap();
    assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_soon_from_a_killed_leader() {
    let environment = Environment::new().await;
    let (leader, standby) = environment.leader_and_standby().await;
    let killed = Instant::now();
    leader.signal("-KILL");
    assert_eq!(leader.ended().await.signal(), Some(9));
    let first = standby.until_it_writes().await;
    measured("first write of the standby after SIGKILL", first.at - killed);
    assert!(first.at - killed < Duration::from_secs(20), "{:?}", first.at - killed);
    silence_between(&leader, &first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_renew_its_lease_stops_writing_before_another_starts() {
    let environment = Environment::new().await;
    let (leader, standby) = environment.leader_and_standby().await;
    let cut = Instant::now();
    // Other requests work, so the leader could keep writing.
    leader.gateway.cut(Cut::Lease);
    let first = standby.until_it_writes().await;
    let silence = silence_between(&leader, &first);
    measured("first write of the standby after the leader's last", silence);
    assert!(silence > LANDING, "{silence:?}");
    let last = leader.gateway.writes().last().unwrap().at;
    assert!(
        last > cut + Duration::from_secs(1),
        "it did not write after the cut, although its lease was still valid"
    );
    assert!(last <= cut + RENEW_DEADLINE + Duration::from_millis(100), "{:?}", last - cut);
    assert!(!leader.ended().await.success());
    assert!(leader.said("was not renewed for 10s"), "{:#?}", leader.log.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_an_api_server_stops_writing_before_another_starts() {
    let environment = Environment::new().await;
    let (leader, standby) = environment.leader_and_standby().await;
    let cut = Instant::now();
    leader.gateway.cut(Cut::Everything);
    let first = standby.until_it_writes().await;
    measured("first write of the standby after the cut", first.at - cut);
    assert!(silence_between(&leader, &first) > LANDING);
    assert!(!leader.ended().await.success());
    assert!(leader.said("could not be read: no answer in 3s"), "{:#?}", leader.log.lock().unwrap());
    assert!(leader.said("was not renewed for 10s"), "{:#?}", leader.log.lock().unwrap());
}
