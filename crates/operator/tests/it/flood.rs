//! A tenant that floods the API server with requests of a ServiceAccount.
//!
//! By default all service accounts outside kube-system share one priority level. The flow schemas of
//! `config/manager` give the operator's Lease and its other requests levels that tenants do not use.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use node_readiness_api::LEASE_NAME;
use tokio::task::JoinSet;

use crate::harness::{connect, install, with_token};
use crate::restarts::Environment;

const NAMESPACE: &str = "nrr-system";

/// The number of the tenant's concurrent list requests.
const LISTS: usize = 600;

/// A list request that occupies the API server for three seconds and uses hardly any CPU, because it waits for a future
/// resource version. Large lists would measure the machine instead.
const SLOW_LIST: &str =
    "/api/v1/configmaps?resourceVersion=999999999&resourceVersionMatch=NotOlderThan";

/// The maximum time from a change of a condition to the taint during the flood.
const WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_floods_the_api_server_delays_neither_the_lease_nor_taints() {
    let environment = Environment::new("flood", 9).await;
    let operators = install(environment.kubeconfig(), "flood.kubeconfig");
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/manager/flow_schemas.yaml");
    environment.try_kubectl(&["apply", "-f", schemas]).unwrap();
    environment.node("flooded").await;
    environment.rule("continuous").await;
    let _operator = Operator(
        Command::new(env!("CARGO_BIN_EXE_node-readiness-operator"))
            .args(["--leader-elect", "--leader-election-namespace", NAMESPACE, "--kubeconfig"])
            .arg(operators)
            .args(["--health-probe-bind-address=0", "--reporter-image=reporter:1"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    environment.await_count(|counts| counts == (1, 1)).await;
    let before = transitions(&environment).await;

    let flood = flood(&environment).await;
    let mut slowest = Duration::ZERO;
    for status in ["True", "False"].into_iter().cycle().take(6) {
        // The flood must take effect before each change.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let begun = Instant::now();
        environment.report_on("flooded", status).await;
        let tainted = usize::from(status == "False");
        environment.await_count(|(found, _)| found == tainted).await;
        slowest = slowest.max(begun.elapsed());
    }
    eprintln!("{} slow lists at a time; the slowest taint took {slowest:.2?}", flood.len());
    assert!(slowest < WITHIN, "a taint took {slowest:.2?}");
    assert_eq!(transitions(&environment).await, before, "the lease was lost");
}

/// An operator's process. It is killed when this is dropped.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn transitions(environment: &Environment) -> (Option<String>, Option<i32>) {
    let leases: Api<Lease> = Api::namespaced(environment.client.clone(), NAMESPACE);
    let spec = leases.get(LEASE_NAME).await.unwrap().spec.unwrap();
    (spec.holder_identity, spec.lease_transitions)
}

/// Starts a tenant that sends slow list requests repeatedly, until the returned value is dropped.
async fn flood(environment: &Environment) -> JoinSet<()> {
    environment.try_kubectl(&["create", "serviceaccount", "tenant"]).unwrap();
    let admin = ["--clusterrole=cluster-admin", "--serviceaccount=default:tenant"];
    environment
        .try_kubectl(&["create", "clusterrolebinding", "tenant", admin[0], admin[1]])
        .unwrap();
    let token = environment.try_kubectl(&["create", "token", "tenant"]).unwrap();
    let tenant = with_token(environment.kubeconfig(), "tenant.kubeconfig", token.trim());
    let mut lists = JoinSet::new();
    // A connection allows a hundred concurrent requests.
    for _ in 0..LISTS / 50 {
        let client = connect(&tenant).await;
        for _ in 0..50 {
            lists.spawn(list_for_ever(client.clone()));
        }
    }
    lists
}

async fn list_for_ever(tenant: Client) {
    loop {
        let request = http::Request::get(SLOW_LIST).body(Vec::new()).unwrap();
        // The API server refuses the request in any case.
        drop(tenant.request_text(request).await);
    }
}
