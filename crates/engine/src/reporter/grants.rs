//! The permissions of a set's reporters, by the set's access.

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use node_readiness_api::ReporterAccess;

use super::{ReporterNames, ReporterSet, Settings};
use crate::admission::{BoundPolicy, own_conditions};
use crate::rbac;

/// Permissions, and the policy that limits them.
pub(super) struct Grants {
    /// The policy that limits what RBAC cannot limit.
    pub policy: Option<BoundPolicy>,
    /// The cluster roles.
    pub cluster_roles: Vec<ClusterRole>,
    /// Their bindings.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// The role for the configuration.
    pub role: Role,
    /// Its binding.
    pub role_binding: RoleBinding,
}

/// Returns the permissions of a set. `metadata` makes the metadata of an object with this name and namespace.
pub(super) fn grants(
    set: &ReporterSet,
    names: &ReporterNames,
    settings: &Settings,
    metadata: impl Fn(&str, Option<&str>) -> ObjectMeta,
) -> Grants {
    let (policy, granted) = match set.options.access {
        ReporterAccess::ConstrainedImpersonation => (
            None,
            vec![
                (&names.impersonator, rbac::impersonate_own_node()),
                (&names.status_updater, rbac::update_own_status()),
            ],
        ),
        ReporterAccess::AdmissionPolicy => {
            let types = set.probes().map(|probe| probe.condition_type.as_str());
            let metadata = metadata(&names.policy, None);
            let policy = own_conditions(metadata, &settings.namespace, &names.set, types);
            (Some(policy), vec![(&names.status_updater, rbac::update_any_status())])
        }
    };
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: names.set.clone(),
        namespace: Some(settings.namespace.clone()),
        api_group: None,
    };
    let bind = |name: &String| ClusterRoleBinding {
        metadata: metadata(name, None),
        role_ref: role_ref("ClusterRole", name),
        subjects: Some(vec![subject.clone()]),
    };
    let in_namespace = || metadata(&names.set, Some(&settings.namespace));
    Grants {
        policy,
        cluster_role_bindings: granted.iter().map(|(name, _)| bind(name)).collect(),
        cluster_roles: granted
            .into_iter()
            .map(|(name, rules)| cluster_role(metadata(name, None), rules))
            .collect(),
        role: Role { metadata: in_namespace(), rules: Some(rbac::follow_config(&names.set)) },
        role_binding: RoleBinding {
            metadata: in_namespace(),
            role_ref: role_ref("Role", &names.set),
            subjects: Some(vec![subject]),
        },
    }
}

fn cluster_role(metadata: ObjectMeta, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata, rules: Some(rules), aggregation_rule: None }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}
