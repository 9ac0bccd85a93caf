//! Rules that share their reporters, on two real nodes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, image, within};
use crate::nodes::NODES;
use crate::reporters::{REPORTERS, Report, Rule, type_of};
use crate::shell::{get_all, kubectl};

/// A port on which kubelet serves its health, and one on which no server listens.
const OPEN: u16 = 10248;
const CLOSED: u16 = 9197;

fn tcp(port: u16) -> Value {
    json!({"tcpSocket": {"port": port}})
}

fn connected() -> Report {
    ("True", "ProbeSucceeded", format!("tcpSocket localhost:{OPEN}: connected"))
}

fn refused() -> Report {
    ("False", "ProbeFailed", format!("tcpSocket localhost:{CLOSED}: connection refused"))
}

/// Returns names and restarts of all reporters that are not being deleted.
fn reporters() -> Vec<(String, i32)> {
    let mut pods: Vec<Pod> = get_all(&["pods", "-n", REPORTERS]);
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let restarts = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).sum()
    };
    let mut all: Vec<_> =
        pods.into_iter().map(|pod| (restarts(&pod), pod.metadata.name.unwrap())).collect();
    all.sort();
    all.into_iter().map(|(restarts, name)| (name, restarts)).collect()
}

/// Rules come, change, conflict and go, and the same two pods do all of it.
#[test]
fn ten_rules_are_one_pod_a_node() {
    let mut exclusive = Exclusive::with_operator();
    let rules: Vec<_> = (0..10)
        .map(|number| {
            Rule::of_node(&format!("one-of-ten-{number}"), NODES[0])
                .on_all_nodes()
                .probe(&format!("Ten{number}"), &tcp(OPEN))
        })
        .collect();
    rules[0].apply(&mut exclusive);
    rules[0].await_reported("Ten0", &connected());
    eventually("both nodes have a reporter", || (rules[0].ready_pods().len() == 2).then_some(()));
    let pods = reporters();
    for rule in &rules[1..] {
        rule.apply(&mut exclusive);
    }
    for (number, rule) in rules.iter().enumerate() {
        rule.await_reported(&format!("Ten{number}"), &connected());
    }

    // An edit takes effect in place.
    let edited = Rule::of_node("one-of-ten-3", NODES[0]).on_all_nodes().probe("Ten3", &tcp(CLOSED));
    edited.change();
    within(Duration::from_secs(5), "the edited probe is used", || {
        let condition = edited.conditions().into_iter().next()?;
        (condition.message.as_deref() == Some(&refused().2)).then_some(())
    });

    // A younger rule probes a condition of an older one, which decides it until it goes.
    let younger = Rule::of_node("younger", NODES[0]).on_all_nodes().probe("Ten5", &tcp(CLOSED));
    younger.create(&mut exclusive);
    eventually("the younger rule's status reports who decides, and where", || {
        let conditions = younger.now().status?.conditions;
        let ready = conditions.into_iter().find(|c| c.type_ == "ReporterReady")?;
        let words = format!("{} by one-of-ten-5 on 2 nodes (first {})", type_of("Ten5"), NODES[0]);
        (ready.reason == "ProbeConflict" && ready.message.contains(&words)).then_some(())
    });
    rules[5].await_reported("Ten5", &connected());
    kubectl(&["delete", "nodereadinessrule", "one-of-ten-5", "--timeout=60s"]);
    younger.await_reported("Ten5", &refused());

    assert_eq!(reporters(), pods, "a pod was restarted or replaced");
}

#[test]
fn a_label_moves_a_node_from_one_rule_to_another_within_two_seconds() {
    let mut exclusive = Exclusive::with_operator();
    let label = |value: &str| {
        kubectl(&["label", "node", NODES[0], "--overwrite", &format!("e2e-pool={value}")]);
    };
    exclusive.unlabel_at_the_end(NODES[0], "e2e-pool");
    let pool = |name: &str, value: &str, port: u16| {
        let rule =
            Rule::of_node(name, NODES[0]).selecting(json!({"matchLabels": {"e2e-pool": value}}));
        rule.probe("Moved", &tcp(port))
    };
    label("a");
    let (a, b) = (pool("pool-a", "a", OPEN), pool("pool-b", "b", CLOSED));
    a.apply(&mut exclusive);
    b.apply(&mut exclusive);
    a.await_reported("Moved", &connected());
    for (value, expected) in [("b", refused()), ("a", connected())] {
        label(value);
        let labelled = Instant::now();
        within(Duration::from_secs(10), "the other rule's probe decides", || {
            let condition = a.conditions().into_iter().next()?;
            (condition.message.as_deref() == Some(&expected.2)).then_some(())
        });
        let took = labelled.elapsed();
        assert!(took < Duration::from_secs(2), "it took {took:?}");
    }
    // A node that leaves all rules keeps its condition.
    label("c");
    eventually("no rule covers the node", || (a.now().status?.nodes?.matched == 0).then_some(()));
    a.await_reported("Moved", &connected());
}

#[test]
fn a_rule_with_its_own_image_runs_beside_the_shared_set() {
    let mut exclusive = Exclusive::with_operator();
    let shared = Rule::of_node("in-shared-set", NODES[0]).probe("Shared", &tcp(OPEN));
    let own = Rule::of_node("with-own-image", NODES[0])
        .reporter("image", image("testkit"))
        .probe("Own", &tcp(OPEN))
        .probe("Shared", &tcp(CLOSED));
    shared.apply(&mut exclusive);
    own.create(&mut exclusive);
    shared.await_reported("Shared", &connected());
    own.await_reported("Own", &connected());
    assert_ne!(own.set(), shared.set());
    let pod = own.await_pod().spec.unwrap();
    assert_eq!(pod.containers[0].image, Some(image("testkit")));
    shared.await_pod();
    // The older rule decides the shared condition, although its reporter is another one.
    shared.await_reported("Shared", &connected());
    kubectl(&["delete", "nodereadinessrule", "in-shared-set", "--timeout=60s"]);
    own.await_reported("Shared", &refused());
}
