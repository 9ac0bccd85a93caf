//! The termination message of a reporter with a wrong setting.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, image};
use crate::shell::{get, kubectl};

/// A container for each wrong setting: its name, the endpoint that it probes, the condition that it reports, and the
/// expected error.
const WRONG: [(&str, Option<&str>, &str, &str); 3] = [
    ("no-endpoint", None, "example.com/Ready", "CHECK_ENDPOINT is not set"),
    ("no-url", Some("localhost:9099"), "example.com/Ready", "CHECK_ENDPOINT is \"localhost:9099\""),
    ("kubelets", Some("http://localhost:9099/"), "Ready", "CONDITION_TYPE is \"Ready\""),
];

#[test]
fn a_wrong_setting_is_named_in_the_termination_message() {
    // The test needs the images that are loaded with the operator.
    let mut exclusive = Exclusive::with_operator();
    let containers = WRONG.map(|(name, endpoint, type_, _)| container(name, endpoint, type_));
    exclusive.run_pod(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "misled-reporter"},
        "spec": {
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "containers": containers,
        },
    }));
    eventually("all containers ended", || {
        let pod: Pod = get(&["pod", "misled-reporter"]);
        (pod.status?.phase? == "Failed").then_some(())
    });
    for (name, _, _, said) in WRONG {
        // This is a user's command.
        let path = format!(
            "jsonpath={{.status.containerStatuses[?(@.name==\"{name}\")].state.terminated.message}}"
        );
        let message = kubectl(&["get", "pod", "misled-reporter", "-o", &path]);
        assert!(message.starts_with(&format!("node-readiness-reporter: {said}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

fn container(name: &str, endpoint: Option<&str>, condition: &str) -> Value {
    json!({
        "name": name,
        "image": image("reporter"),
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532},
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CONDITION_TYPE", "value": condition},
            // An empty variable counts as not set.
            {"name": "CHECK_ENDPOINT", "value": endpoint.unwrap_or_default()},
        ],
    })
}
