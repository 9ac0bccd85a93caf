//! Tests on a Kubernetes without constrained impersonation. A rule that needs it gets no permission, and its status
//! names the other access.

use k8s_openapi::api::core::v1::Node;
use node_readiness_api::{NodeReadinessRule, REPORTER_SET_LABEL};
use node_readiness_testkit::verification::Access;

use crate::harness::{Exclusive, eventually};
use crate::shell::{get, kubectl};
use crate::tokens::{self, apply_rule, rule};

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
    let set = tokens::set(Access::ConstrainedImpersonation);
    assert_eq!(generated(&set), "", "the rule has generated objects");
    let node: Node = get(&["node", "node-a"]);
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().all(|c| c.type_ != condition));

    apply_rule("unsupported", Access::AdmissionPolicy);
    let reported = format!("--for=condition={condition}=False");
    kubectl(&["wait", "node", "--all", &reported, "--timeout=60s"]);
    let set = tokens::set(Access::AdmissionPolicy);
    assert!(generated(&set).contains(&format!("daemonset.apps/{set}")));
}

/// Returns the names of the existing objects of a reporter set.
fn generated(set: &str) -> String {
    let kinds = "serviceaccounts,configmaps,daemonsets,pods,roles,rolebindings,clusterroles,\
        clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    kubectl(&["get", kinds, "-A", &format!("-l{REPORTER_SET_LABEL}={set}"), "-o", "name"])
}
