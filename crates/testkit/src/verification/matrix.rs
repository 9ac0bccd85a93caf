//! The attack matrix: attempts with a reporter's token, and the expected answers.
//!
//! It is data: to try more, add a row. Each row has three expectations, because the guard applies only to writes as a
//! node. The expectations are the same on every Kubernetes version that supports the access.

use super::changes::{self, Change};
use super::row::{
    Attempt, By, Cell, Row, Section, Who, all, guard, impersonation, policy, read, restriction,
    row, update,
};

/// Returns all rows.
pub fn matrix() -> &'static [Section] {
    &MATRIX
}

const OWN: &str = "/api/v1/nodes/{own}";
const OWN_STATUS: &str = "/api/v1/nodes/{own}/status";
const OTHER: &str = "/api/v1/nodes/{other}";
const OTHER_STATUS: &str = "/api/v1/nodes/{other}/status";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{own}";
const TOKEN: &str = "/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token";
const PODS: &str = "/api/v1/namespaces/{namespace}/pods";
const RULES: &str = "/apis/readiness.node.x-k8s.io/v1alpha1/nodereadinessrules";
const GUARD_POLICY: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/nrr-guard-records";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

const RECORDS: Cell =
    guard("annotations under readiness.k8s.io/ are the node readiness operator's");
/// Two policies refuse the request, and the message names one of them.
const EITHER_GUARD: Cell = guard("ValidatingAdmissionPolicy 'nrr-guard-");
const GUARD: Cell =
    guard("an impersonated node may change only conditions that rules probe, and no other field");
const GUARD_CONDITION: Cell = guard(
    "an impersonated node may change only conditions that rules probe, and no other condition",
);
const GUARD_FORM: Cell = guard("an impersonated node may write each condition once");
const POLICY_NODE: Cell = policy("a reporter may change only the Node that its pod runs on");
const POLICY: Cell =
    policy("a reporter may change only conditions that rules probe, and no other field");
const POLICY_CONDITION: Cell =
    policy("a reporter may change only conditions that rules probe, and no other condition");
const POLICY_FORM: Cell = policy("a reporter may write each condition once");
const NO_TAINTS: Cell = restriction("is not allowed to modify taints");
const NO_LABELS: Cell = restriction("is not allowed to modify labels");
const NO_OWNERS: Cell = restriction("is not allowed to modify ownerReferences");
const NO_OTHER: Cell = restriction("is not allowed to modify node");
const NOT_READABLE: Cell = Cell::Refused(By::NodeAuthorizer, "only its own Node object");
const NOT_OTHERS: Cell = impersonation("cannot impersonate-on:arbitrary-node:");
const NOT_ANYBODY: Cell = impersonation("cannot impersonate");

/// The name of a reporter set's configuration is that of its ServiceAccount.
const WATCH_CONFIG: &str = "/api/v1/namespaces/{namespace}/configmaps?fieldSelector=metadata.name%3D{account}&watch=true&timeoutSeconds=1";

use Cell::{Ignored, Lacks, Open, Works};

const GET_NODE: Cell = Lacks("get", "nodes");
const UPDATE_STATUS: Cell = Lacks("update", "nodes/status");

#[rustfmt::skip]
static MATRIX: [Section; 7] = [
    Section { title: "Its work", rows: &[
        read("read its node", OWN, [Works, Works, Works]),
        read("watch its node", "/api/v1/nodes?fieldSelector=metadata.name%3D{own}&watch=true&timeoutSeconds=1",
            [Works, Works, Lacks("watch", "nodes")]).of_generated(),
        row("watch its configuration", Who::Itself, Attempt::Read(WATCH_CONFIG), all(Works)).of_generated(),
        row("write its condition", Who::Reporter, Attempt::Heartbeat, [Works, Works, Works]),
    ]},
    Section { title: "Its node, through its status", rows: &[
        status("write a condition that another rule probes", changes::other_rules_condition,
            [Open, Open, POLICY_CONDITION]).with_another_rule(),
        status("write a condition that no rule probes", changes::unprobed_condition,
            [Open, GUARD_CONDITION, POLICY_CONDITION]),
        status("write `Ready`, as kubelet does", changes::ready,
            [Open, GUARD_CONDITION, POLICY_CONDITION]),
        status("remove one of kubelet's conditions", changes::no_memory_pressure,
            [Open, GUARD_CONDITION, POLICY_CONDITION]),
        status("write its condition twice", changes::condition_twice,
            [Open, GUARD_FORM, POLICY_FORM]),
        status("write a message of 1025 characters", changes::long_message,
            [Open, GUARD_FORM, POLICY_FORM]),
        status("write a reason of 1025 characters", changes::long_reason,
            [Open, GUARD_FORM, POLICY_FORM]),
        status("write an invalid status", changes::invalid_status,
            [Open, GUARD_FORM, POLICY_FORM]),
        status("set a label", changes::label, [Open, GUARD, POLICY]),
        status("set a reserved label", changes::reserved_label, [NO_LABELS, NO_LABELS, POLICY]),
        status("set an annotation", changes::annotation, [Open, GUARD, POLICY]),
        status("change the operator's records", changes::record, [RECORDS, EITHER_GUARD, POLICY]),
        status("remove the operator's records", changes::no_record,
            [RECORDS, EITHER_GUARD, POLICY]),
        status("set a finalizer", changes::finalizer, [Open, GUARD, POLICY]),
        status("set an owner", changes::owner, [NO_OWNERS, NO_OWNERS, POLICY]),
        status("change its capacity", changes::capacity, [Open, GUARD, POLICY]),
        status("change its allocatable resources", changes::allocatable, [Open, GUARD, POLICY]),
        status("change its addresses", changes::addresses, [Open, GUARD, POLICY]),
        status("change kubelet's version", changes::node_info, [Open, GUARD, POLICY]),
        status("change its managed fields", changes::managers, all(Ignored)),
        status("remove its taints", changes::no_taints, [NO_TAINTS, NO_TAINTS, Ignored]),
        status("change its spec", changes::unschedulable, [Ignored, Ignored, Ignored]),
    ]},
    Section { title: "Its node in other ways", rows: &[
        update("update the whole object", OWN, changes::label, all(Lacks("update", "nodes"))),
        update("remove its taints", OWN, changes::no_taints, all(Lacks("update", "nodes"))),
        row("patch it", Who::Reporter, Attempt::PatchNode, all(Lacks("patch", "nodes"))),
        row("patch its status", Who::Reporter, Attempt::PatchStatus,
            all(Lacks("patch", "nodes/status"))),
        row("delete it", Who::Reporter, Attempt::Delete(OWN), all(Lacks("delete", "nodes"))),
        read("read only its status", OWN_STATUS, all(Lacks("get", "nodes/status"))),
        read("read its lease", LEASE, all(Lacks("get", "leases"))),
        read("query its kubelet through the API server", "/api/v1/nodes/{own}/proxy/pods",
            all(Lacks("get", "nodes/proxy"))),
    ]},
    Section { title: "Other nodes", rows: &[
        read("read another node", OTHER, [NOT_READABLE, NOT_READABLE, Open]),
        update("write another node's status", OTHER_STATUS, changes::ready,
            [NO_OTHER, NO_OTHER, POLICY_NODE]),
        read("watch another node", "/api/v1/nodes?fieldSelector=metadata.name%3D{other}&watch=true&timeoutSeconds=1",
            [NOT_READABLE, NOT_READABLE, Lacks("watch", "nodes")]).of_generated(),
        row("read another node as that node", Who::OtherNode, Attempt::Read(OTHER),
            [NOT_OTHERS, NOT_OTHERS, NOT_ANYBODY]),
        row("write another node's status as that node", Who::OtherNode,
            Attempt::Update(OTHER_STATUS, changes::ready), [NOT_OTHERS, NOT_OTHERS, NOT_ANYBODY]),
        row("create a node", Who::Reporter, Attempt::Create("/api/v1/nodes", "v1", "Node"),
            all(Lacks("create", "nodes"))),
        row("delete all nodes", Who::Reporter, Attempt::Delete("/api/v1/nodes"),
            all(Lacks("deletecollection", "nodes"))),
    ]},
    Section { title: "The cluster", rows: &[
        read("list nodes", "/api/v1/nodes", all(Lacks("list", "nodes"))),
        read("watch nodes", "/api/v1/nodes?watch=true&timeoutSeconds=1",
            [NOT_READABLE, NOT_READABLE, Lacks("watch", "nodes")]).of_generated(),
        read("list pods", "/api/v1/pods", all(Lacks("list", "pods"))),
        read("list leases", "/apis/coordination.k8s.io/v1/leases", all(Lacks("list", "leases"))),
        read("list secrets", "/api/v1/namespaces/{namespace}/secrets",
            all(Lacks("list", "secrets"))),
        read("read a secret", "/api/v1/namespaces/{namespace}/secrets/any",
            all(Lacks("get", "secrets"))),
        read("list config maps", "/api/v1/namespaces/{namespace}/configmaps",
            all(Lacks("list", "configmaps"))),
        read("read a config map", "/api/v1/namespaces/{namespace}/configmaps/any",
            all(Lacks("get", "configmaps"))),
        row("list config maps as its ServiceAccount", Who::Itself,
            Attempt::Read("/api/v1/namespaces/{namespace}/configmaps"),
            all(Lacks("list", "configmaps"))),
        row("list config maps with the name of its configuration", Who::Itself,
            Attempt::Read("/api/v1/namespaces/{namespace}/configmaps?fieldSelector=metadata.name%3D{account}"),
            all(Lacks("list", "configmaps"))),
        row("watch config maps as its ServiceAccount", Who::Itself,
            Attempt::Read("/api/v1/namespaces/{namespace}/configmaps?watch=true&timeoutSeconds=1"),
            all(Lacks("watch", "configmaps"))),
        row("watch another config map as its ServiceAccount", Who::Itself,
            Attempt::Read("/api/v1/namespaces/{namespace}/configmaps?fieldSelector=metadata.name%3Dany&watch=true&timeoutSeconds=1"),
            all(Lacks("watch", "configmaps"))),
        row("delete its configuration", Who::Itself,
            Attempt::Delete("/api/v1/namespaces/{namespace}/configmaps/{account}"),
            all(Lacks("delete", "configmaps"))),
        row("create a token for its ServiceAccount", Who::Reporter,
            Attempt::Create(TOKEN, "authentication.k8s.io/v1", "TokenRequest"),
            all(Lacks("create", "serviceaccounts/token"))),
        row("request a client certificate", Who::Reporter,
            Attempt::Create(CSRS, "certificates.k8s.io/v1", "CertificateSigningRequest"),
            all(Lacks("create", "certificatesigningrequests"))),
        row("create a pod", Who::Reporter, Attempt::Create(PODS, "v1", "Pod"),
            all(Lacks("create", "pods"))),
        read("list rules", RULES, all(Lacks("list", "nodereadinessrules"))),
        row("create a rule", Who::Reporter,
            Attempt::Create(RULES, "readiness.node.x-k8s.io/v1alpha1", "NodeReadinessRule"),
            all(Lacks("create", "nodereadinessrules"))),
        row("delete the guard", Who::Reporter, Attempt::Delete(GUARD_POLICY),
            all(Lacks("delete", "validatingadmissionpolicies"))),
    ]},
    Section { title: "With another identity", rows: &[
        row("read its node as its ServiceAccount", Who::Itself, Attempt::Read(OWN),
            [GET_NODE, GET_NODE, Works]),
        row("write its node's status as its ServiceAccount", Who::Itself,
            Attempt::Update(OWN_STATUS, changes::nothing),
            [UPDATE_STATUS, UPDATE_STATUS, Works]),
        row("read its node as the node", Who::ItsNode, Attempt::Read(OWN),
            [Works, Works, NOT_ANYBODY]),
        row("act as its node in group system:masters",
            Who::ItsNodeWith("--as-group=system:masters"), Attempt::Read(OWN), all(NOT_ANYBODY)),
        row("act as its node with a uid", Who::ItsNodeWith("--as-uid=1"), Attempt::Read(OWN),
            all(NOT_ANYBODY)),
        row("act as its node with a credential ID, as kubelet has",
            Who::ItsNodeWith("--as-user-extra=authentication.kubernetes.io/credential-id=forged"),
            Attempt::Read(OWN), all(NOT_ANYBODY)),
        row("act as an administrator", Who::User("kubernetes-admin"), Attempt::Read(OWN),
            all(NOT_ANYBODY)),
        row("act as the operator", Who::User("system:serviceaccount:nrr-system:nrr-controller-manager"),
            Attempt::Read(OWN), all(NOT_ANYBODY)),
    ]},
    Section { title: "With a token that is bound to no pod", rows: &[
        row("read its node", Who::Unbound, Attempt::Read(OWN), [NOT_OTHERS, NOT_OTHERS, Open]),
        row("write its node's status", Who::Unbound,
            Attempt::Update(OWN_STATUS, changes::heartbeat), [NOT_OTHERS, NOT_OTHERS, POLICY_NODE]),
    ]},
];

const fn status(what: &'static str, change: Change, expected: [Cell; 3]) -> Row {
    update(what, OWN_STATUS, change, expected)
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Guard, Setting};
    use super::*;

    /// The stronger guard refuses everything that the weaker one refuses.
    #[test]
    fn the_strict_guard_refuses_all_that_the_records_guard_refuses() {
        for row in matrix().iter().flat_map(|section| section.rows) {
            let [records, strict] = Guard::ALL
                .map(|guard| row.cell(Setting { access: Access::ConstrainedImpersonation, guard }));
            let done = |cell| matches!(cell, Works | Open);
            assert!(done(records) || !done(strict), "{}", row.what);
        }
    }
}
