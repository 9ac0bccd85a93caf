//! The DaemonSet that runs a rule's reporters.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile,
    SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use node_readiness_api::{
    DIGEST_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, NODE_NAME_ENV, REPORTER_CONFIG_DIR,
    REPORTER_CONFIG_FILE, RULE_UID_LABEL, ReporterOptions,
};

use super::{NodeSet, ReporterNames, Settings};

/// Name of the container, and of the volume with its configuration.
const CONTAINER: &str = "reporter";
const CONFIG_VOLUME: &str = "config";

/// User id of distroless images' `nonroot`, which needs no entry in a passwd file.
const NON_ROOT: i64 = 65532;

/// What the pods are made from.
pub(super) struct Pod<'a> {
    pub names: &'a ReporterNames,
    pub options: &'a ReporterOptions,
    pub settings: &'a Settings,
    /// Nodes to run on.
    pub nodes: &'a NodeSet,
    pub rule_uid: &'a str,
    /// Digest of the configuration; pods restart when it changes.
    pub config_digest: String,
}

pub(super) fn spec(pod: &Pod<'_>) -> DaemonSetSpec {
    let selector = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (RULE_UID_LABEL.to_owned(), pod.rule_uid.to_owned()),
    ]);
    let mut labels = pod.options.pod_labels.clone();
    labels.extend(selector.clone());
    let mut annotations = pod.options.pod_annotations.clone();
    annotations.insert(DIGEST_ANNOTATION.to_owned(), pod.config_digest.clone());
    DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(pod_spec(pod)),
        },
        update_strategy: Some(DaemonSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDaemonSet {
                max_unavailable: Some(IntOrString::String("10%".to_owned())),
                max_surge: None,
            }),
        }),
        ..DaemonSetSpec::default()
    }
}

fn pod_spec(pod: &Pod<'_>) -> PodSpec {
    let options = pod.options;
    let pull_secrets =
        (!options.image_pull_secrets.is_empty()).then(|| options.image_pull_secrets.clone());
    let priority = options.priority_class_name.as_deref().unwrap_or("system-node-critical");
    PodSpec {
        service_account_name: Some(pod.names.namespaced.clone()),
        // The ServiceAccount says no, so that no other pod gets the token by accident.
        automount_service_account_token: Some(true),
        containers: vec![container(pod)],
        host_network: options.host_network.then_some(true),
        // With the node's network comes the node's resolver.
        dns_policy: Some(if options.host_network { "Default" } else { "ClusterFirst" }.to_owned()),
        enable_service_links: Some(false),
        affinity: pod.nodes.affinity(),
        tolerations: Some(options.tolerations.clone().unwrap_or_else(tolerate_everything)),
        priority_class_name: Some(priority.to_owned()),
        image_pull_secrets: pull_secrets,
        termination_grace_period_seconds: Some(5),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(options.run_as_user.unwrap_or(NON_ROOT)),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(vec![Volume {
            name: CONFIG_VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: pod.names.namespaced.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn container(pod: &Pod<'_>) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(pod.settings.image.clone()),
        args: Some(vec![format!("--config={REPORTER_CONFIG_DIR}/{REPORTER_CONFIG_FILE}")]),
        env: Some(vec![EnvVar {
            name: NODE_NAME_ENV.to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "spec.nodeName".to_owned(),
                    api_version: None,
                }),
                ..EnvVarSource::default()
            }),
            value: None,
        }]),
        resources: Some(pod.options.resources.clone().unwrap_or_else(resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: CONFIG_VOLUME.to_owned(),
            mount_path: REPORTER_CONFIG_DIR.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// A few times what a reporter was measured to use, and no limit on CPU: throttling a probe would
/// make it time out.
fn resources() -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), quantity("5m")),
            ("memory".to_owned(), quantity("16Mi")),
        ])),
        limits: Some(BTreeMap::from([("memory".to_owned(), quantity("32Mi"))])),
        claims: None,
    }
}

/// A reporter must run on exactly the nodes that are not ready yet, whatever keeps others off.
fn tolerate_everything() -> Vec<Toleration> {
    vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]
}
