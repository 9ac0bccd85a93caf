//! The lifetime of a stolen token of a reporter, and rules whose tokens tests steal. The testkit's matrix lists all
//! attempts with a token.

use std::path::Path;

use node_readiness_engine::reporter::set_name;
use node_readiness_testkit::verification::{
    self, Access, Action, Answer, Expected, Guard, Identity, Reporter, Scene, Session, Setting,
};
use node_readiness_testkit::{Cluster, KubernetesVersion, Layout};
use serde_json::json;

use crate::harness::{Exclusive, eventually};
use crate::shell::{apply, kubeconfig, kubectl};

#[test]
fn a_reporters_token_expires_with_its_pod() {
    let mut exclusive = Exclusive::with_operator();
    let layout = layout();
    for access in Access::ALL.into_iter().filter(|access| access.exists_on(version())) {
        let rule = format!("end-{access}").to_lowercase();
        let reporter = reporter_on_node_a(&mut exclusive, &layout, &rule, access);
        let stolen = Session::bound(&layout, &reporter).unwrap();
        let identity = match access {
            Access::ConstrainedImpersonation => Identity::Node("node-a".to_owned()),
            Access::AdmissionPolicy => Identity::Itself,
        };
        let read = Action::Read("/api/v1/nodes/node-a".to_owned());
        let ask = || stolen.perform(&identity, &read).unwrap();
        assert_eq!(ask(), Answer::Allowed);

        let Reporter { namespace, pod, .. } = &reporter;
        kubectl(&["-n", namespace, "delete", "pod", pod, "--timeout=60s"]);
        // The API server caches the authentication of a token for about ten seconds.
        let unauthorized = Expected::Refused("Unauthorized".to_owned());
        eventually("the token of a deleted pod is refused", || {
            let answer = ask();
            assert!(answer == Answer::Allowed || unauthorized.is(&answer), "{answer}");
            unauthorized.is(&answer).then_some(())
        });
    }
}

/// Tries the whole matrix with the token of a reporter on node-a that was deployed by hand, with constrained
/// impersonation and the default guard.
pub fn assert_as_the_matrix_says(layout: &Layout, reporter: &Reporter) {
    let setting = Setting { access: Access::ConstrainedImpersonation, guard: Guard::Records };
    let scene = Scene::of(reporter, setting, "node-b").deployed_by_hand();
    let checks = verification::verify(layout, reporter, &scene).unwrap();
    let wrong: Vec<_> = checks.iter().filter(|check| !check.holds()).collect();
    assert!(wrong.is_empty(), "not as expected: {wrong:#?}");
}

/// Creates a rule with a unique name, and returns its reporter on node-a after it has written its condition.
pub fn reporter_on_node_a(
    exclusive: &mut Exclusive,
    layout: &Layout,
    name: &str,
    access: Access,
) -> Reporter {
    let condition = rule(exclusive, name, access);
    let run = "--for=condition=ReporterReady";
    kubectl(&["wait", "nodereadinessrule", name, run, "--timeout=60s"]);
    let reported = format!("--for=condition={condition}=False");
    kubectl(&["wait", "node", "node-a", &reported, "--timeout=60s"]);
    let account = set(access);
    Reporter::on_node(layout, "nrr-reporters", &account, "node-a", &condition).unwrap()
}

/// Creates a rule until the end of the test, and returns the condition that it probes.
pub fn rule(exclusive: &mut Exclusive, name: &str, access: Access) -> String {
    exclusive.remove_at_the_end(&["nodereadinessrule", name]);
    apply_rule(name, access)
}

/// Creates or changes such a rule.
pub fn apply_rule(name: &str, access: Access) -> String {
    let condition = format!("e2e.example.com/{name}");
    apply(&json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"kubernetes.io/os": "linux"}},
            "conditions": [{"type": condition, "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": format!("readiness.k8s.io/{name}"), "value": "pending", "effect": "NoSchedule"},
            "reporter": {"access": access.to_string()},
            "probes": [{
                "conditionType": condition,
                // No server listens on this port.
                "httpGet": {"port": 9098},
                "periodSeconds": 1,
                "failureThreshold": 1,
            }],
        },
    }));
    condition
}

/// Returns the name of the reporter set of rules with this access.
pub fn set(access: Access) -> String {
    let options = json!({"access": access.to_string()});
    set_name(&serde_json::from_value(options).unwrap()).unwrap()
}

/// Returns the cluster of the tests.
pub fn cluster() -> Cluster {
    let kubeconfig = kubeconfig();
    Cluster::attach(Path::new(&kubeconfig).parent().unwrap()).unwrap()
}

/// Returns the layout of the cluster's files.
pub fn layout() -> Layout {
    cluster().layout().clone()
}

/// Returns the Kubernetes version of this run.
pub fn version() -> KubernetesVersion {
    let version = std::env::var("NRR_E2E_KUBE").expect("NRR_E2E_KUBE must be set; run make test");
    version.parse().unwrap()
}
