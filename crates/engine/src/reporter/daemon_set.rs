//! The DaemonSet that runs a rule's reporters.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use node_readiness_api::{DIGEST_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, RULE_UID_LABEL};

use super::MaxUnavailable;
use super::pod::{Pod, pod_spec};

pub(super) fn spec(pod: &Pod<'_>, max_unavailable: MaxUnavailable) -> DaemonSetSpec {
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
                max_unavailable: Some(IntOrString::String(max_unavailable.percent())),
                max_surge: None,
            }),
        }),
        ..DaemonSetSpec::default()
    }
}
