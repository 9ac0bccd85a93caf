//! The guard and real kubelets. The guard refuses no normal request of a kubelet, and all requests that it must refuse.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use node_readiness_testkit::verification::Guard;
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, image};
use crate::nodes::{NODES, is_held};
use crate::shell::{Ran, get, get_all, kubectl, root, sh, try_kubectl};
use crate::tokens::cluster;

/// The operator's Deployment and its namespace.
const OPERATOR: [&str; 3] = ["-n", "nrr-system", "deployment/nrr-controller-manager"];

/// The policy that only the strict guard has.
const STRICT_ONLY: &str = "validatingadmissionpolicy/nrr-guard-impersonated";

/// A label that kubelet sets, and repairs when it starts.
const KUBELETS_LABEL: &str = "kubernetes.io/arch";

/// The strict guard includes the records guard, so a request that it allows passes both.
#[test]
fn the_strict_guard_allows_all_requests_of_a_kubelet() {
    let mut exclusive = Exclusive::with_operator();
    put_up(Guard::Strict);
    kubelets_requests_name_their_credential();
    kubelet_may_set_labels_but_no_records();
    kubelet_may_not_register_with_records();

    let before = refusals();
    assert!(before > 0, "the guard refused none of the forbidden requests");
    kubelet_reports_a_condition_of_its_own();
    a_node_is_drained(&mut exclusive);
    kubelet_registers_anew();
    kubelet_beats();
    assert_eq!(refusals(), before, "the guard refused a request of a kubelet");
}

/// Sets the operator's `--guard`, and waits until it is in effect.
pub fn put_up(guard: Guard) {
    let deployment: Value = get(&OPERATOR);
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let flag = json!(format!("--guard={guard}"));
    if !args.contains(&flag) {
        let is_guard = |arg: &Value| arg.as_str().unwrap().starts_with("--guard=");
        let mut args: Vec<_> = args.iter().filter(|arg| !is_guard(arg)).cloned().collect();
        args.push(flag);
        let pointer = "/spec/template/spec/containers/0/args";
        let patch = json!([{"op": "replace", "path": pointer, "value": args}]).to_string();
        kubectl(&[&["patch", "--type=json", "-p", &patch], &OPERATOR[..]].concat());
    }
    let [option, namespace, deployment] = OPERATOR;
    kubectl(&[option, namespace, "rollout", "status", deployment, "--timeout=120s"]);
    eventually(&format!("the guard {guard} is in effect"), || {
        let strict = try_kubectl(&["get", STRICT_ONLY]).code() == Some(0);
        let refused_by = |ran: &Ran, name: &str| ran.to_string().contains(name);
        let label = impersonated(&["label", "node", "node-a", "example.org/forged=x"]);
        let record = impersonated(&["annotate", "node", "node-a", "readiness.k8s.io/forged=x"]);
        let label_as_wanted = match guard {
            Guard::Records => label.code() == Some(0),
            Guard::Strict => refused_by(&label, "nrr-guard-impersonated"),
        };
        let record_refused = refused_by(&record, "'nrr-guard-");
        (strict == (guard == Guard::Strict) && label_as_wanted && record_refused).then_some(())
    });
}

/// Runs kubectl as an administrator who impersonates node-a, as a dry run. Every version supports this older kind of
/// impersonation, and the guard sees the same user as with constrained impersonation.
fn impersonated(arguments: &[&str]) -> Ran {
    let options = ["--as=system:node:node-a", "--as-group=system:nodes", "--dry-run=server"];
    try_kubectl(&[arguments, &options].concat())
}

/// Runs kubectl with the credentials of a node's kubelet.
fn as_kubelet(node: &str, arguments: &[&str]) -> Ran {
    let kubeconfig = cluster().layout().kubelet_kubeconfig(node);
    let option = format!("--kubeconfig={}", kubeconfig.display());
    try_kubectl(&[&[option.as_str()], arguments].concat())
}

/// Checks that a kubelet's requests name its credential, by which the strict guard distinguishes it from an
/// impersonated node.
fn kubelets_requests_name_their_credential() {
    for node in NODES {
        let said = as_kubelet(node, &["auth", "whoami", "-o", "json"]).expect_success();
        let review: Value = serde_json::from_str(&said).unwrap();
        let user = &review["status"]["userInfo"];
        assert_eq!(user["username"], format!("system:node:{node}"));
        let credential = &user["extra"]["authentication.kubernetes.io/credential-id"][0];
        assert!(credential.as_str().unwrap().starts_with("X509SHA256="), "{review}");
    }
}

fn kubelet_may_set_labels_but_no_records() {
    let dry_run = "--dry-run=server";
    as_kubelet("node-a", &["label", "node", "node-a", "example.org/own=x", dry_run])
        .expect_success();
    let record =
        as_kubelet("node-a", &["annotate", "node", "node-a", "readiness.k8s.io/own=x", dry_run]);
    assert!(record.to_string().contains("nrr-guard-records"), "{record}");
}

/// Checks that kubelet cannot register a Node with claims. The API server reports that a Node exists only if no other
/// check fails.
fn kubelet_may_not_register_with_records() {
    let register = |key: &str| {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-a", "annotations": {key: "x"}},
        });
        let kubeconfig = cluster().layout().kubelet_kubeconfig("node-a").display().to_string();
        let command = format!("kubectl --kubeconfig={kubeconfig} create -f - <<'EOF'\n{node}\nEOF");
        sh(&root(), &command).to_string()
    };
    let foreign = register("example.org/own");
    assert!(foreign.contains("AlreadyExists"), "{foreign}");
    let record = register("readiness.k8s.io/own");
    assert!(record.contains("nrr-guard-records"), "{record}");
}

/// Checks that kubelet can report its node as not Ready. It does so without a pod network.
fn kubelet_reports_a_condition_of_its_own() {
    let cluster = cluster();
    cluster.remove_pod_network("node-b").unwrap();
    let reason = eventually("node-b's kubelet reports that it is not Ready", || {
        let (status, reason) = ready("node-b")?;
        (status == "False").then_some(reason)
    });
    assert_eq!(reason, "KubeletNotReady");
    cluster.restore_pod_network("node-b").unwrap();
    await_ready("node-b");
}

fn a_node_is_drained(exclusive: &mut Exclusive) {
    exclusive.run_pod(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "drained"},
        "spec": {
            "nodeName": "node-b",
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "drained", "image": image("testkit")}],
        },
    }));
    kubectl(&["wait", "pod/drained", "--for=condition=Ready", "--timeout=60s"]);
    kubectl(&["drain", "node-b", "--ignore-daemonsets", "--force", "--timeout=60s"]);
    let left: Vec<Pod> = get_all(&["pods", "--field-selector=spec.nodeName=node-b"]);
    assert!(left.is_empty(), "{left:?}");
    kubectl(&["uncordon", "node-b"]);
}

/// Checks that kubelet can register a new Node with its labels, an annotation, the startup taint and a status, and that
/// it can repair the labels of an existing Node when it starts.
fn kubelet_registers_anew() {
    let cluster = cluster();
    let old: Node = get(&["node", "node-b"]);
    kubectl(&["delete", "node", "node-b", "--timeout=60s"]);
    cluster.restart_kubelet("node-b").unwrap();
    let node: Node = eventually("node-b is registered again", || {
        let node = try_kubectl(&["get", "node", "node-b", "-o", "json"]);
        (node.code() == Some(0)).then(|| serde_json::from_str(&node.stdout()).unwrap())
    });
    assert_ne!(node.metadata.uid, old.metadata.uid);
    assert!(is_held(&node), "the node does not have its startup taint");
    await_ready("node-b");

    kubectl(&["label", "node", "node-b", &format!("{KUBELETS_LABEL}-")]);
    cluster.restart_kubelet("node-b").unwrap();
    eventually("kubelet sets its label again", || {
        let node: Node = get(&["node", "node-b"]);
        node.metadata.labels?.contains_key(KUBELETS_LABEL).then_some(())
    });
    await_ready("node-b");
}

fn kubelet_beats() {
    let renewed = || -> Option<String> {
        let lease: Lease = get(&["lease", "node-b", "-n", "kube-node-lease"]);
        Some(lease.spec?.renew_time?.0.to_string())
    };
    let before = renewed();
    eventually("node-b's kubelet renews its lease", || (renewed() != before).then_some(()));
}

/// Waits until a node is Ready, and Kubernetes has removed its taints of a node that is not Ready.
fn await_ready(name: &str) {
    eventually(&format!("{name} is Ready"), || {
        let node: Node = get(&["node", name]);
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let mut foreign = taints.filter(|taint| taint.key.starts_with("node.kubernetes.io/"));
        (ready(name)?.0 == "True" && foreign.next().is_none()).then_some(())
    });
}

/// Returns status and reason of a node's Ready condition.
fn ready(name: &str) -> Option<(String, String)> {
    let node: Node = get(&["node", name]);
    let conditions = node.status?.conditions?;
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
    Some((ready.status, ready.reason.unwrap_or_default()))
}

/// Returns the number of requests that the guard has refused, from the API server's metrics.
fn refusals() -> u64 {
    let metrics = kubectl(&["get", "--raw", "/metrics"]);
    let counts = metrics.lines().filter(|line| {
        line.starts_with("apiserver_validating_admission_policy_check_total{")
            && line.contains("enforcement_action=\"deny\"")
            && line.contains("policy=\"nrr-guard-")
    });
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}
