//! The example with one file: a rule with a probe, for which the operator generates the reporters.

use k8s_openapi::api::core::v1::Pod;
use node_readiness_api::{NodeReadinessRule, REPORTER_SET_LABEL};
use serde_json::json;

use crate::harness::{Exclusive, eventually, image, stop_agent};
use crate::nodes::{await_node, records};
use crate::shell::{get, get_all, kubectl, root, sh};

const RULE: &str = "examples/cni-readiness/rule.yaml";

#[test]
fn a_node_takes_pods_only_while_its_agent_answers() {
    let mut exclusive = Exclusive::with_operator();
    exclusive.remove_at_the_end(&["-f", &root().join(RULE).display().to_string()]);
    sh(&root(), &format!("kubectl apply -f {RULE}")).expect_success();

    // Reporters of another test may still be terminating.
    let generated = format!("-l{REPORTER_SET_LABEL}=reporter");
    let reporters = running_reporters(&generated);
    for node in ["node-a", "node-b"] {
        await_node(node, "False", true);
    }
    exclusive.run_pod(&workload("node-a"));
    eventually("the scheduler finds no node for the workload", || {
        condition_of(&workload_pod(), "PodScheduled", "False").then_some(())
    });

    exclusive.start_agent("node-a");
    await_node("node-a", "True", false);
    await_node("node-b", "False", true);
    eventually("the workload runs", || {
        condition_of(&workload_pod(), "Ready", "True").then_some(())
    });
    await_table("cni continuous readiness.k8s.io/NetworkReady NoSchedule 2 1 1");

    stop_agent("node-a");
    await_node("node-a", "False", true);
    await_table("cni continuous readiness.k8s.io/NetworkReady NoSchedule 2 0 2");

    // The pods are the same as before, so none failed and was replaced.
    assert_eq!(names(&running_reporters(&generated)), names(&reporters));

    sh(&root(), &format!("kubectl delete -f {RULE} --timeout=60s")).expect_success();
    for node in ["node-a", "node-b"] {
        let node = await_node(node, "False", false);
        assert_eq!(records(&node), [""; 0]);
    }
    // The garbage collector deletes the objects that the rule owned.
    eventually("all generated objects are deleted", || {
        let kinds = "serviceaccounts,configmaps,daemonsets,pods,roles,rolebindings,clusterroles,\
            clusterrolebindings";
        kubectl(&["get", kinds, "-A", &generated, "-o", "name"]).is_empty().then_some(())
    });
}

/// Waits until the rule reports a ready reporter on each node, and checks the settings of the pods.
fn running_reporters(generated: &str) -> Vec<Pod> {
    eventually("the rule reports that both reporters are ready", || {
        let status = rule().status?;
        let reporter = status.reporter?;
        let ready =
            status.conditions.iter().any(|c| c.type_ == "ReporterReady" && c.status == "True");
        (ready && (reporter.desired, reporter.ready) == (2, 2)).then_some(())
    });
    let mut pods: Vec<Pod> = get_all(&["pods", "-n", "nrr-reporters", generated]);
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert!(pod.metadata.name.as_ref().unwrap().starts_with("reporter-"));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.host_network, Some(true));
        // With this setting kubelet refuses to run the container as root.
        assert_eq!(spec.security_context.as_ref().unwrap().run_as_non_root, Some(true));
        let container = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
        assert!(container.ready);
        assert_eq!(container.restart_count, 0);
    }
    pods
}

fn rule() -> NodeReadinessRule {
    get(&["nodereadinessrule", "cni"])
}

fn names(pods: &[Pod]) -> Vec<&String> {
    pods.iter().filter_map(|pod| pod.metadata.name.as_ref()).collect()
}

/// Waits until `kubectl get nodereadinessrules` shows this row, before DRYRUN and AGE.
fn await_table(row: &str) {
    eventually(&format!("kubectl get nodereadinessrules shows {row}"), || {
        let table = kubectl(&["get", "nodereadinessrules"]);
        let lines: Vec<String> =
            table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "NAME MODE TAINT EFFECT NODES READY HELD DRYRUN AGE");
        lines[1].starts_with(row).then_some(())
    });
}

/// Returns an ordinary user's pod for a node.
fn workload(node: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "workload"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{"name": "workload", "image": image("testkit")}],
        },
    })
}

fn workload_pod() -> Pod {
    get(&["pod", "workload"])
}

fn condition_of(pod: &Pod, type_: &str, status: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == type_ && c.status == status)
}
