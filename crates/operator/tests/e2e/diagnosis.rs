//! Prints the state of the cluster after a test has failed. libtest shows it with the failure.

use crate::shell::try_kubectl;

/// The number of lines of each log.
const TAIL: &str = "--tail=60";

/// Prints the state. This never fails. It prints the error of a command that fails.
pub fn print() {
    let node_columns = "custom-columns=NAME:.metadata.name,TAINTS:.spec.taints[*].key,\
        CONDITIONS:.status.conditions[*].type,STATUS:.status.conditions[*].status,\
        RECORD:.metadata.annotations.readiness\\.k8s\\.io/rules";
    let questions: &[&[&str]] = &[
        &["get", "nodes", "-o", node_columns],
        &["get", "nodereadinessrules", "-o", "yaml"],
        &["get", "pods,daemonsets,deployments", "-A", "-o", "wide"],
        &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
        &["-n", "nrr-system", "logs", TAIL, "deployment/nrr-controller-manager"],
        &logs_of("nrr-reporters", "app.kubernetes.io/managed-by=node-readiness-operator"),
        &logs_of("kube-system", "app=cni-reporter"),
    ];
    for question in questions {
        eprintln!("{}\n", try_kubectl(question));
    }
}

fn logs_of<'a>(namespace: &'a str, label: &'a str) -> [&'a str; 7] {
    ["-n", namespace, "logs", "--prefix", TAIL, "-l", label]
}
