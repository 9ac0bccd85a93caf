//! Rules that are created on a cluster in service.

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, image};
use crate::nodes::NODES;
use crate::reporters::Rule;
use crate::shell::get_all;

#[test]
fn a_new_rule_with_a_good_probe_evicts_no_pod_and_one_with_a_bad_probe_respects_max_unavailable() {
    let mut exclusive = Exclusive::with_operator();
    for node in NODES {
        exclusive.run_pod(&workload(node));
    }
    eventually("both nodes are in service", || (running() == 2).then_some(()));
    let rule = |name: &str, port: u16| {
        let probe = json!({"tcpSocket": {"port": port}});
        let rule = Rule::of_node(name, NODES[0]).on_all_nodes().effect("NoExecute");
        rule.spec("maxUnavailable", 1).probe(name, &probe)
    };

    let begun = Timestamp::now();
    // kubelet serves its health on this port.
    let good = rule("good", 10248);
    good.apply(&mut exclusive);
    eventually("both nodes are ready for the good rule", || {
        let nodes = good.now().status?.nodes?;
        (nodes.ready == 2).then_some(())
    });
    let taints_came = "--field-selector=reason=TaintAdded,involvedObject.kind=Node";
    let mut events: Vec<Event> = get_all(&["events", "-A", taints_came]);
    events.retain(|event| event.event_time.as_ref().is_some_and(|time| time.0 >= begun));
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(running(), 2, "a pod was evicted");

    let bad = rule("bad", 1);
    bad.apply(&mut exclusive);
    eventually("one node is held by the bad rule, and the other deferred", || {
        let nodes = bad.now().status?.nodes?;
        ((nodes.held, nodes.deferred, nodes.pending) == (1, 1, 0)).then_some(())
    });
    eventually("the pod of that node is evicted", || (running() == 1).then_some(()));
}

/// Returns the number of the workload's pods that run and are not being deleted.
fn running() -> usize {
    let runs = |pod: &Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
    };
    get_all(&["pods", "--selector=app=in-service"]).iter().filter(|pod| runs(pod)).count()
}

/// Returns an ordinary pod, except that it tolerates the startup taint of this cluster's nodes.
fn workload(node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("in-service-{node}"), "labels": {"app": "in-service"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"key": "readiness.k8s.io/NetworkReady", "operator": "Exists"}],
            "containers": [{"name": "workload", "image": image("testkit"), "args": ["pause"]}],
        },
    })
}
