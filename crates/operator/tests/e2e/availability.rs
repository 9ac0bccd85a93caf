//! Deployments of the operator that fail, and operators whose node fails.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::harness::Exclusive;
use crate::network::{Cut, node_without_leader};
use crate::nodes::NODES;
use crate::reporters::Rule;
use crate::shell::{get_all, root, sh};

#[test]
fn the_cause_of_a_failed_deployment_is_printed() {
    let _exclusive = Exclusive::with_operator();
    let after = |what: &str| {
        sh(&root(), what).expect_success();
        let ran = sh(&root(), "hack/await-operator.sh 15s kubectl");
        assert_eq!(ran.code(), Some(1), "{ran}");
        ran.to_string()
    };
    let set = "kubectl -n nrr-system set image deployment/nrr-controller-manager manager=none.invalid/none:1";
    let said = after(set);
    assert!(said.contains("manager waits: ") && said.contains("none.invalid/none:1"), "{said}");
    let undo = "kubectl -n nrr-system rollout undo deployment/nrr-controller-manager";
    sh(&root(), undo).expect_success();

    let argument =
        r#"[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--none"}]"#;
    let said = after(&format!(
        "kubectl -n nrr-system patch deployment/nrr-controller-manager --type=json -p '{argument}'"
    ));
    assert!(said.contains("--none"), "the output must contain the operator's message: {said}");
    sh(&root(), undo).expect_success();
    sh(&root(), "hack/await-operator.sh 60s kubectl").expect_success();
}

#[test]
fn a_standby_takes_over_from_a_leader_on_a_disconnected_node() {
    let mut exclusive = Exclusive::with_operator();
    // A pod that another test has drained may now run on the same node as the other one.
    sh(&root(), "kubectl -n nrr-system rollout restart deployment/nrr-controller-manager")
        .expect_success();
    sh(&root(), "hack/await-operator.sh 60s kubectl").expect_success();
    let pods: Vec<Pod> =
        get_all(&["pods", "-n", "nrr-system", "-lcontrol-plane=controller-manager"]);
    let nodes: BTreeSet<_> = pods.iter().map(|pod| &pod.spec.as_ref().unwrap().node_name).collect();
    assert_eq!(nodes.len(), 2, "both operators run on one node: {nodes:?}");
    let other = node_without_leader();
    let cut_off = NODES.into_iter().find(|node| *node != other).unwrap();
    let rule =
        Rule::of_node("followed", other).probe("Followed", &json!({"tcpSocket": {"port": 1}}));
    let _cut = Cut::off(cut_off);
    rule.apply(&mut exclusive);
    rule.await_held(true);
    assert_eq!(node_without_leader(), cut_off);
}
