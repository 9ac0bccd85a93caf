//! The objects that run a rule's probes.
//!
//! All of them are generated from the rule alone, and the rule owns them. Each rule has its own ServiceAccount,
//! because permissions of one subject add up.

mod affinity;
mod allowances;
mod conflict;
mod daemon_set;
mod grants;
mod host_paths;
mod names;
mod placement;
mod pod;
mod pods;
mod rollout;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use node_readiness_api::{
    ConditionRequirement, ConditionStatus, MANAGED_BY, MANAGED_BY_LABEL, NodeReadinessRule, Probe,
    REPORTER_CONFIG_FILE, RULE_NAME_ANNOTATION, RULE_UID_LABEL, ReporterConfig,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::grants::Grants;
use self::pod::Pod;
use crate::admission::BoundPolicy;
pub use affinity::{MAX_TERMS, NodeSet};
pub use allowances::{Allowances, ConstrainedImpersonation, Refusal, admit};
pub use conflict::{Conflict, Conflicts, Outcome, Share};
pub use names::ReporterNames;
pub use placement::obstacle;
pub use pods::{ReporterPod, most_frequent_trouble};
pub use rollout::MaxUnavailable;

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

/// All objects of one rule with probes, in the order in which they are applied: a policy before the permission
/// that it limits, and a pod after its permissions.
#[derive(Clone, Debug)]
pub struct ReporterObjects {
    /// The identity of the reporters.
    pub service_account: ServiceAccount,
    /// The policy that limits what RBAC cannot limit.
    pub policy: Option<BoundPolicy>,
    /// The permissions.
    pub roles: Vec<ClusterRole>,
    /// The bindings of the permissions.
    pub role_bindings: Vec<ClusterRoleBinding>,
    /// The configuration of the reporters.
    pub config_map: ConfigMap,
    /// The pods.
    pub daemon_set: DaemonSet,
}

/// Generates the objects for a rule. Returns `None` if the rule has no probes, if older rules make all of its
/// probes, or if its selector can match no node.
///
/// # Errors
///
/// When an object cannot be written as JSON, which plain values always can.
pub fn generate(
    rule: &NodeReadinessRule,
    settings: &Settings,
    share: &Share,
    max_unavailable: MaxUnavailable,
) -> serde_json::Result<Option<ReporterObjects>> {
    let mut probes = rule.spec.probes.clone();
    probes.retain(|probe| share.has(&probe.condition_type));
    let nowhere = probes.is_empty() || share.nodes.is_empty();
    if nowhere || rule.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let rule_name = rule.metadata.name.as_deref().unwrap_or_default();
    let names = ReporterNames::of(rule_name);
    let options = rule.spec.reporter.clone().unwrap_or_default();
    let config = ReporterConfig {
        rule: rule_name.to_owned(),
        access: options.access,
        heartbeat_seconds: options.heartbeat_seconds,
        metrics_port: options.metrics_port,
        required: required(&rule.spec.conditions, &probes),
        probes,
        yields: share.yields.clone(),
    };
    let config_json = config.to_json()?;
    let meta = |name: &str| metadata(rule, name, None);
    let namespaced = |name: &str| metadata(rule, name, Some(&settings.namespace));
    let Grants { policy, roles, bindings } =
        grants::grants(options.access, &names, settings, &config.probes, meta);
    let pod = Pod {
        names: &names,
        options: &options,
        settings,
        probes: &config.probes,
        nodes: &share.nodes,
        rule_uid: rule.metadata.uid.as_deref().unwrap_or_default(),
        config_digest: digest(&config_json),
    };
    Ok(Some(ReporterObjects {
        service_account: ServiceAccount {
            metadata: namespaced(&names.namespaced),
            // The token is projected into the pods and bound to each. No other pod may mount one.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        policy,
        roles,
        role_bindings: bindings,
        daemon_set: DaemonSet {
            metadata: namespaced(&names.namespaced),
            spec: daemon_set::spec(&pod, max_unavailable),
            status: None,
        },
        config_map: ConfigMap {
            metadata: namespaced(&names.namespaced),
            data: Some(BTreeMap::from([(REPORTER_CONFIG_FILE.to_owned(), config_json)])),
            ..ConfigMap::default()
        },
    }))
}

/// Returns the required status of each probed condition.
fn required(
    conditions: &[ConditionRequirement],
    probes: &[Probe],
) -> BTreeMap<String, ConditionStatus> {
    let is_probed = |type_: &str| probes.iter().any(|probe| probe.condition_type == type_);
    let conditions = conditions.iter().filter(|condition| is_probed(&condition.type_));
    conditions.map(|condition| (condition.type_.clone(), condition.required_status)).collect()
}

/// Returns a short digest for the digest annotation.
pub fn digest(text: &str) -> String {
    let mut head = [0; 8];
    head.copy_from_slice(&Sha256::digest(text)[..8]);
    format!("{:016x}", u64::from_be_bytes(head))
}

/// Returns the digest of a generated object before the digest annotation is added.
///
/// # Errors
/// When the object cannot be written as JSON, which plain values always can.
pub fn digest_of(object: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(object).map(|json| digest(&json))
}

fn metadata(rule: &NodeReadinessRule, name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            ("app.kubernetes.io/name".to_owned(), "node-readiness-reporter".to_owned()),
            (RULE_UID_LABEL.to_owned(), rule.metadata.uid.clone().unwrap_or_default()),
        ])),
        annotations: Some(BTreeMap::from([(
            RULE_NAME_ANNOTATION.to_owned(),
            rule.metadata.name.clone().unwrap_or_default(),
        )])),
        owner_references: Some(vec![owner(rule)]),
        ..ObjectMeta::default()
    }
}

fn owner(rule: &NodeReadinessRule) -> OwnerReference {
    OwnerReference {
        api_version: NodeReadinessRule::api_version(&()).into_owned(),
        kind: NodeReadinessRule::kind(&()).into_owned(),
        name: rule.metadata.name.clone().unwrap_or_default(),
        uid: rule.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
