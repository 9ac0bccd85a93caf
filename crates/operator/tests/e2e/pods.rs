//! The pods of reporters and of the operator in clusters with odd settings.

use serde_json::json;

use crate::harness::{Exclusive, eventually};
use crate::network::node_without_leader;
use crate::reporters::{REPORTERS, Rule};
use crate::shell::{kubectl, root, sh};

/// The variables of a proxy at an address on which no server listens.
const PROXY: &str =
    "HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9 NO_PROXY=example.com";

/// Removes the variables of a proxy from the operator on drop, even if the test fails.
struct WithoutProxy;

impl Drop for WithoutProxy {
    fn drop(&mut self) {
        let unset = "kubectl -n nrr-system set env deployment/nrr-controller-manager HTTPS_PROXY- \
                     HTTP_PROXY- NO_PROXY-; hack/await-operator.sh 90s kubectl; kubectl -n nrr-system \
                     patch serviceaccount nrr-controller-manager -p '{\"automountServiceAccountToken\":null}'";
        let ran = sh(&root(), unset);
        if ran.code() != Some(0) {
            eprintln!("cannot clean up: {ran}");
        }
    }
}

#[test]
fn the_status_reports_an_image_that_cannot_be_pulled() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let rule = Rule::of_node("no-image", node)
        .reporter("image", "node-readiness/none.invalid:1")
        .probe("NoImage", &json!({"tcpSocket": {"port": 9}}));
    rule.apply(&mut exclusive);
    eventually("the status reports why no reporter runs", || {
        let conditions = rule.now().status?.conditions;
        let ready = conditions.into_iter().find(|c| c.type_ == "ReporterReady")?;
        let words = ["0 of 1 reporters are ready", "ErrImagePull", "none.invalid", node];
        words.iter().all(|word| ready.message.contains(word)).then_some(())
    });
}

#[test]
fn pods_mount_their_own_token_and_ignore_proxy_variables() {
    let mut exclusive = Exclusive::with_operator();
    let _without_proxy = WithoutProxy;
    let no_token = json!({"automountServiceAccountToken": false}).to_string();
    let account = "serviceaccount/nrr-controller-manager";
    kubectl(&["-n", "nrr-system", "patch", account, "-p", &no_token]);
    let deployment = "deployment/nrr-controller-manager";
    sh(&root(), &format!("kubectl -n nrr-system set env {deployment} {PROXY}")).expect_success();
    sh(&root(), "hack/await-operator.sh 90s kubectl").expect_success();

    let node = node_without_leader();
    // Times have whole seconds: the first heartbeat may be in the second in which the pod was created.
    let rule = Rule::of_node("proxied", node)
        .reporter("heartbeatSeconds", 10)
        .probe("Proxied", &json!({"tcpSocket": {"port": 10248}}));
    rule.apply(&mut exclusive);
    let first = rule.await_pod();
    let set = format!("kubectl -n {REPORTERS} set env daemonset/{} {PROXY}", rule.set());
    sh(&root(), &set).expect_success();
    let pod = eventually("a reporter with a proxy in its environment is ready", || {
        rule.pod_on(node).filter(|pod| pod.metadata.uid != first.metadata.uid)
    });
    let container = &pod.spec.unwrap().containers[0];
    assert!(container.env.as_ref().unwrap().iter().any(|env| env.name == "HTTPS_PROXY"));
    let started = pod.metadata.creation_timestamp.unwrap().0;
    eventually("a heartbeat in a later second than the pod", || {
        let condition = rule.conditions().into_iter().next()?;
        let at = condition.last_heartbeat_time?.0;
        (condition.status == "True" && at > started).then_some(())
    });
    rule.await_held(false);
}
