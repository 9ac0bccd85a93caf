//! The DaemonSet that runs a set's reporters.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, REPORTER_SET_LABEL};

use super::pod::pod_spec;
use super::{MaxUnavailable, ReporterSet, Settings};

pub(super) fn spec(
    set: &ReporterSet,
    settings: &Settings,
    max_unavailable: MaxUnavailable,
) -> DaemonSetSpec {
    let selector = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (REPORTER_SET_LABEL.to_owned(), set.name.clone()),
    ]);
    let mut labels = set.options.pod_labels.clone();
    labels.extend(selector.clone());
    let annotations = set.options.pod_annotations.clone();
    DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                annotations: (!annotations.is_empty()).then_some(annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(pod_spec(set, settings)),
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
