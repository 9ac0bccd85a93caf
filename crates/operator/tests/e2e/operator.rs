//! The operator as the pod that `make deploy` runs.

use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::harness::{Exclusive, image};
use crate::shell::{get, get_all, try_kubectl};

const NAMESPACE: &str = "nrr-system";

#[test]
fn the_operators_pod_is_ready_in_a_restricted_namespace() {
    let _exclusive = Exclusive::with_operator();
    let namespace: Namespace = get(&["namespace", NAMESPACE]);
    let level = &namespace.metadata.labels.unwrap()["pod-security.kubernetes.io/enforce"];
    assert_eq!(level, "restricted");
    // The level is enforced.
    let image = format!("--image={}", image("testkit"));
    let refused =
        try_kubectl(&["-n", NAMESPACE, "run", "unrestricted", &image, "--dry-run=server"]);
    assert!(refused.to_string().contains("violates PodSecurity \"restricted"), "{refused}");

    let pods: Vec<Pod> = get_all(&["pods", "-n", NAMESPACE, "-lcontrol-plane=controller-manager"]);
    let pods: Vec<_> =
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        let container = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
        assert!(container.ready);
        let probe = pod.spec.as_ref().unwrap().containers[0].readiness_probe.as_ref().unwrap();
        assert_eq!(probe.http_get.as_ref().unwrap().path.as_deref(), Some("/readyz"));
    }
}
