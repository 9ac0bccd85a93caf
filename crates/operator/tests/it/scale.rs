//! The cost of reporters for the operator on a large cluster.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::harness::{REPORTERS, eventually, poll};
use crate::restarts::{self, Environment};

const NODES: usize = 5000;
const RULES: usize = 10;

/// The generated kinds, as kubectl names them.
const KINDS: &str =
    "serviceaccounts,configmaps,daemonsets,roles,rolebindings,clusterroles,clusterrolebindings";

/// The objects of one set: one of each kind in the namespace, and two roles and bindings for Nodes.
const OBJECTS: usize = 9;

fn generated(environment: &Environment) -> usize {
    let label = ["-A", "-l", "readiness.k8s.io/reporter-set", "-o", "name"];
    let arguments = [&["get", KINDS][..], &label].concat();
    environment.try_kubectl(&arguments).unwrap().lines().count()
}

/// Returns the number of server-side applies of generated kinds. No other client applies them.
fn applies(environment: &Environment) -> u64 {
    let metrics = environment.try_kubectl(&["get", "--raw", "/metrics"]).unwrap();
    let counts = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && line.contains("verb=\"APPLY\"")
            && KINDS.split(',').any(|kind| line.contains(&format!("resource=\"{kind}\"")))
    };
    let counted = metrics.lines().filter(counts);
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Nodes have no label `kubernetes.io/os`, so no pods are created, and the rules are dry runs, so no node is written.
#[tokio::test]
async fn objects_and_writes_for_reporters_do_not_grow_with_rules_and_nodes() {
    let environment = Environment::new("scale", 26).await;
    let nodes = environment.nodes();
    let node = |number: usize| {
        let labels = json!({"test": "restart"});
        json!({"metadata": {"name": format!("n{number:04}"), "labels": labels}})
    };
    let creates = (0..NODES).map(|number| {
        let (nodes, node) = (nodes.clone(), serde_json::from_value(node(number)).unwrap());
        async move { drop(nodes.create(&PostParams::default(), &node).await.unwrap()) }
    });
    stream::iter(creates).buffer_unordered(16).collect::<()>().await;
    let before = applies(&environment);
    let _operator = environment.operator();
    for number in 0..RULES {
        let name = format!("scale-{number}");
        let type_ = format!("example.com/Scale{number}");
        let mut rule = restarts::rule(&name, "continuous");
        rule["spec"]["conditions"][0]["type"] = json!(type_);
        rule["spec"]["probes"] = json!([{"conditionType": type_, "tcpSocket": {"port": 9}}]);
        rule["spec"]["dryRun"] = json!(true);
        environment.apply(&rule).await;
    }
    for number in 0..RULES {
        let name = format!("scale-{number}");
        let evaluated = poll(async || {
            let status = environment.rules().get(&name).await.unwrap().status?;
            (status.nodes?.matched as usize == NODES && status.reporter.is_some()).then_some(())
        });
        evaluated.await.expect("all nodes are evaluated and the reporters are in place");
    }
    assert_eq!(generated(&environment), OBJECTS);
    let after = applies(&environment);
    // Each rule may be a write of each object, whose owner it becomes.
    let most = (OBJECTS * RULES) as u64;
    assert!(after - before <= most, "{} applies", after - before);

    // Nodes change, and rules that probe nothing come: neither concerns the reporters.
    for number in 0..200 {
        let patch = json!({"metadata": {"labels": {"test": "other"}}});
        let params = PatchParams::default();
        nodes.patch(&format!("n{number:04}"), &params, &Patch::Merge(patch)).await.unwrap();
    }
    let rule = environment.rules();
    let matched = |rule: &node_readiness_api::NodeReadinessRule| {
        let nodes = rule.status.as_ref().and_then(|status| status.nodes);
        nodes.is_some_and(|nodes| nodes.matched as usize == NODES - 200)
    };
    eventually(&rule, "scale-0", matched).await;
    assert_eq!(applies(&environment), after);
    let maps: Api<ConfigMap> = Api::namespaced(environment.client.clone(), REPORTERS);
    let config = maps.get("reporter").await.unwrap().data.unwrap().remove("config.json").unwrap();
    assert!(config.len() < 1024 * RULES, "{} bytes", config.len());
}
