//! The liveness probe of generated reporters, which a real kubelet runs.
//!
//! With the period in the generated pods kubelet takes about four minutes to restart a stuck reporter, and the operator
//! repairs pods with another period. So this tests two things: the check of a stuck reporter in a generated pod fails,
//! and kubelet restarts a copy of that pod with a shorter period.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, within};
use crate::process::Process;
use crate::reporters::{REPORTERS, Rule};
use crate::shell::{Ran, apply, get, try_kubectl};

const COPY: &str = "reporter-copy";

/// The timeout of the check's failure. A reporter counts as stuck after a minute, and its last sign of life may be
/// up to 15 s older than the moment when it got stuck.
const NOTICED: Duration = Duration::from_mins(2);

#[test]
fn a_stuck_reporter_fails_its_liveness_check_and_is_restarted() {
    let mut exclusive = Exclusive::with_operator();
    let rule =
        Rule::of_node("stuck", "node-a").probe("Stuck", &json!({"tcpSocket": {"port": 9195}}));
    rule.apply(&mut exclusive);
    let pod = rule.await_pod();
    exclusive.remove_at_the_end(&["pod", "-n", REPORTERS, COPY, "--now"]);
    apply(&impatient_copy(&rule.daemon_set()));
    let copy = eventually("the copy runs", || Some(copy()).filter(|pod| container(pod).0));

    assert_eq!(check(&pod).code(), Some(0), "{}", check(&pod));
    let (reporter, copied) = (Process::of_reporter(&pod), Process::of_reporter(&copy));
    reporter.signal("STOP");
    copied.signal("STOP");

    let failed = within(NOTICED, "the check fails", || {
        Some(check(&pod)).filter(|ran| ran.code() != Some(0))
    });
    assert!(failed.to_string().contains("the reporter is stuck"), "{failed}");
    within(NOTICED, "kubelet restarts the copy", || {
        Some(self::copy()).filter(|pod| container(pod) == (true, 1))
    });
    reporter.signal("CONT");
    eventually("the check succeeds again", || (check(&pod).code() == Some(0)).then_some(()));
}

/// Runs the check in the pod's spec, as kubelet does.
fn check(pod: &Pod) -> Ran {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let probe = container.liveness_probe.as_ref().unwrap();
    let command = probe.exec.as_ref().unwrap().command.as_ref().unwrap();
    let name = pod.metadata.name.as_deref().unwrap();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    try_kubectl(&[&["-n", REPORTERS, "exec", name, "--"], &command[..]].concat())
}

/// Returns a pod of the generated template without an owner, whose check runs every second.
fn impatient_copy(daemon_set: &Value) -> Value {
    let mut spec = daemon_set["spec"]["template"]["spec"].clone();
    spec["nodeName"] = "node-a".into();
    let probe = &mut spec["containers"][0]["livenessProbe"];
    for (field, value) in [("initialDelaySeconds", 1), ("periodSeconds", 1)] {
        probe[field] = value.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": COPY, "namespace": REPORTERS},
        "spec": spec,
    })
}

fn copy() -> Pod {
    get(&["pod", "-n", REPORTERS, COPY])
}

/// Returns whether a pod's container is ready, and the number of its restarts.
fn container(pod: &Pod) -> (bool, i32) {
    let mut containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    containers.next().map_or((false, 0), |c| (c.ready, c.restart_count))
}
