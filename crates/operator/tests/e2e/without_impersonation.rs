//! Tests on a Kubernetes without constrained impersonation. A rule that needs it gets no permission, and its status
//! names the other access.

use k8s_openapi::api::core::v1::Node;
use node_readiness_api::NodeReadinessRule;
use node_readiness_testkit::verification::Access;

use crate::harness::{Exclusive, eventually};
use crate::shell::{get, kubectl};
use crate::tokens::{apply_rule, rule};

#[test]
fn a_rule_gets_no_permission_until_it_selects_the_other_access() {
    let mut exclusive = Exclusive::with_operator();
    let condition = rule(&mut exclusive, "unsupported", Access::ConstrainedImpersonation);
    let (reason, message) = eventually("the rule reports why it has no reporters", || {
        let rule: NodeReadinessRule = get(&["nodereadinessrule", "unsupported"]);
        let condition = rule.status?.conditions.into_iter().find(|c| c.type_ == "ReporterReady")?;
        // The condition is pending until the operator knows the API server's features.
        (condition.reason == "ConstrainedImpersonationMissing")
            .then_some((condition.reason, condition.message))
    });
    assert!(message.contains("spec.reporter.access"), "{reason}: {message}");
    assert_eq!(generated("unsupported"), "", "the rule has generated objects");
    let node: Node = get(&["node", "node-a"]);
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().all(|c| c.type_ != condition));

    apply_rule("unsupported", Access::AdmissionPolicy);
    let reported = format!("--for=condition={condition}=False");
    kubectl(&["wait", "node", "--all", &reported, "--timeout=60s"]);
    assert!(generated("unsupported").contains("daemonset.apps/reporter-unsupported"));
}

/// Returns the names of the existing objects that were generated for a rule.
fn generated(rule: &str) -> String {
    let kinds = "serviceaccounts,configmaps,daemonsets,pods,clusterroles,clusterrolebindings,\
        validatingadmissionpolicies,validatingadmissionpolicybindings";
    let rule: NodeReadinessRule = get(&["nodereadinessrule", rule]);
    let label = format!("-l{}={}", node_readiness_api::RULE_UID_LABEL, rule.metadata.uid.unwrap());
    kubectl(&["get", kinds, "-A", &label, "-o", "name"])
}
