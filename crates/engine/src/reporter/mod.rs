//! The objects that run rules' probes.
//!
//! All of them are generated from the rules alone. Each [`ReporterSet`] has its own ServiceAccount, because
//! permissions of one subject add up, and all of its rules own its objects.

mod allowances;
mod daemon_set;
mod grants;
mod host_paths;
mod names;
mod overlap;
mod placement;
mod pod;
mod pods;
mod rollout;
mod set;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use node_readiness_api::{
    MANAGED_BY, MANAGED_BY_LABEL, REPORTER_CONFIG_KEY, REPORTER_SET_LABEL, ReporterConfig,
};
use serde::Serialize;

use self::grants::Grants;
use crate::admission::BoundPolicy;
use crate::digest;
pub use allowances::{Allowances, ConstrainedImpersonation, Refusal, admit};
pub use names::{ReporterNames, set_name};
pub use overlap::{Overlap, Overlaps, overlaps};
pub use placement::obstacle;
pub use pods::{ReporterPod, most_frequent_trouble};
pub use rollout::MaxUnavailable;
pub use set::{Member, ReporterSet, ReporterSets};

/// The operator's settings for reporters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of reporters.
    pub namespace: String,
    /// The image of reporters.
    pub image: String,
    /// The limits of what rules may ask for.
    pub allowances: Allowances,
}

/// All objects of a reporter set, in the order in which they are applied: a policy before the permission that it
/// limits, a configuration after the permissions that its probes need, and a pod last.
#[derive(Clone, Debug)]
pub struct ReporterObjects {
    /// The identity of the reporters.
    pub service_account: ServiceAccount,
    /// The policy that limits what RBAC cannot limit.
    pub policy: Option<BoundPolicy>,
    /// The permissions for Nodes.
    pub cluster_roles: Vec<ClusterRole>,
    /// The bindings of these permissions.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// The permission to follow the configuration.
    pub role: Role,
    /// The binding of this permission.
    pub role_binding: RoleBinding,
    /// The configuration of the reporters.
    pub config_map: ConfigMap,
    /// The pods.
    pub daemon_set: DaemonSet,
}

/// Generates the objects of a set.
///
/// # Errors
///
/// When an object cannot be written as JSON, which plain values always can.
pub fn generate(
    set: &ReporterSet,
    settings: &Settings,
    max_unavailable: MaxUnavailable,
) -> serde_json::Result<ReporterObjects> {
    let names = ReporterNames::of(&set.name);
    let owners = set::owners(&set.rules);
    let meta = |name: &str, namespace: Option<&str>| ObjectMeta {
        owner_references: Some(owners.clone()),
        ..metadata(&set.name, name, namespace)
    };
    let namespaced = || meta(&names.set, Some(&settings.namespace));
    let Grants { policy, cluster_roles, cluster_role_bindings, role, role_binding } =
        grants::grants(set, &names, settings, meta);
    Ok(ReporterObjects {
        service_account: ServiceAccount {
            metadata: namespaced(),
            // The token is projected into the pods and bound to each. No other pod may mount one.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        policy,
        cluster_roles,
        cluster_role_bindings,
        role,
        role_binding,
        config_map: ConfigMap {
            metadata: namespaced(),
            ..config_map(&set.name, &set.config, settings)?
        },
        daemon_set: DaemonSet {
            metadata: namespaced(),
            spec: daemon_set::spec(set, settings, max_unavailable),
            status: None,
        },
    })
}

/// Generates only the configuration of a set.
///
/// # Errors
///
/// When it cannot be written as JSON, which plain values always can.
pub fn config_map(
    set: &str,
    config: &ReporterConfig,
    settings: &Settings,
) -> serde_json::Result<ConfigMap> {
    Ok(ConfigMap {
        metadata: ObjectMeta {
            owner_references: Some(set::owners(config.own_rules())),
            ..metadata(set, set, Some(&settings.namespace))
        },
        data: Some(BTreeMap::from([(REPORTER_CONFIG_KEY.to_owned(), config.to_json()?)])),
        ..ConfigMap::default()
    })
}

/// Returns a short digest for the digest annotation.
pub fn digest(text: &str) -> String {
    digest::to_text(digest::short(text))
}

/// Returns the digest of a generated object before the digest annotation is added.
///
/// # Errors
/// When the object cannot be written as JSON, which plain values always can.
pub fn digest_of(object: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(object).map(|json| digest(&json))
}

fn metadata(set: &str, name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            ("app.kubernetes.io/name".to_owned(), "node-readiness-reporter".to_owned()),
            (REPORTER_SET_LABEL.to_owned(), set.to_owned()),
        ])),
        ..ObjectMeta::default()
    }
}
