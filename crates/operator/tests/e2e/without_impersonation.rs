//! On a Kubernetes without constrained impersonation: what needs it gets nothing, and a way out.

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
    let (reason, message) = eventually("the rule says why it has no reporters", || {
        let rule: NodeReadinessRule = get(&["nodereadinessrule", "unsupported"]);
        let condition = rule.status?.conditions.into_iter().find(|c| c.type_ == "ReporterReady")?;
        // Until the operator has found out, it waits.
        (condition.reason == "ConstrainedImpersonationMissing")
            .then_some((condition.reason, condition.message))
    });
    assert!(message.contains("spec.reporter.access"), "{reason}: {message}");
    assert_eq!(generated("unsupported"), "", "something was granted, or runs");
    let node: Node = get(&["node", "node-a"]);
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().all(|c| c.type_ != condition));

    apply_rule("unsupported", Access::AdmissionPolicy);
    let reported = format!("--for=condition={condition}=False");
    kubectl(&["wait", "node", "--all", &reported, "--timeout=60s"]);
    assert!(generated("unsupported").contains("daemonset.apps/reporter-unsupported"));
}

/// What there is of all that is generated for a rule.
fn generated(rule: &str) -> String {
    let kinds = "serviceaccounts,configmaps,daemonsets,pods,clusterroles,clusterrolebindings,\
        validatingadmissionpolicies,validatingadmissionpolicybindings";
    let rule: NodeReadinessRule = get(&["nodereadinessrule", rule]);
    let label = format!("-l{}={}", node_readiness_api::RULE_UID_LABEL, rule.metadata.uid.unwrap());
    kubectl(&["get", kinds, "-A", &label, "-o", "name"])
}
