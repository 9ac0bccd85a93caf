//! The permissions of a rule's reporters, by the rule's access.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use node_readiness_api::{Probe, ReporterAccess};

use super::{ReporterNames, Settings};
use crate::admission::{BoundPolicy, own_conditions};
use crate::rbac;

/// Permissions, and the policy that limits them.
pub(super) struct Grants {
    /// The policy that limits what RBAC cannot limit.
    pub policy: Option<BoundPolicy>,
    /// The roles.
    pub roles: Vec<ClusterRole>,
    /// The bindings.
    pub bindings: Vec<ClusterRoleBinding>,
}

/// Returns the permissions of a rule. `metadata` makes the metadata of an object with this name.
pub(super) fn grants(
    access: ReporterAccess,
    names: &ReporterNames,
    settings: &Settings,
    probes: &[Probe],
    metadata: impl Fn(&str) -> ObjectMeta,
) -> Grants {
    let (policy, granted) = match access {
        ReporterAccess::ConstrainedImpersonation => (
            None,
            vec![
                (&names.impersonator, rbac::impersonate_own_node()),
                (&names.status_updater, rbac::update_own_status()),
            ],
        ),
        ReporterAccess::AdmissionPolicy => {
            let types = probes.iter().map(|probe| probe.condition_type.as_str());
            let policy = own_conditions(
                metadata(&names.policy),
                &settings.namespace,
                &names.namespaced,
                types,
            );
            (Some(policy), vec![(&names.status_updater, rbac::update_any_status())])
        }
    };
    let binding = |name: &str| binding(metadata(name), names, settings);
    Grants {
        policy,
        bindings: granted.iter().map(|(name, _)| binding(name)).collect(),
        roles: granted.into_iter().map(|(name, rules)| role(metadata(name), rules)).collect(),
    }
}

fn role(metadata: ObjectMeta, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata, rules: Some(rules), aggregation_rule: None }
}

/// Binds the role of the same name to the rule's ServiceAccount.
fn binding(metadata: ObjectMeta, names: &ReporterNames, settings: &Settings) -> ClusterRoleBinding {
    let role = metadata.name.clone().unwrap_or_default();
    ClusterRoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: role,
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: names.namespaced.clone(),
            namespace: Some(settings.namespace.clone()),
            api_group: None,
        }]),
    }
}
