//! The contract between operator and reporter: the file that the operator writes and the reporter reads.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

use crate::{ConditionStatus, Probe, ReporterAccess};

/// The configuration of a generated reporter. It is written as JSON to
/// [`REPORTER_CONFIG_FILE`](crate::REPORTER_CONFIG_FILE), so the reporter needs no YAML parser.
///
/// Unknown fields are refused: operator and reporter are released together, and a reporter that ignored a field
/// would not do what the rule states.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReporterConfig {
    /// Name of the rule, for logs.
    pub rule: String,
    /// The access of the reporter.
    #[serde(default)]
    pub access: ReporterAccess,
    /// Seconds after which an unchanged condition is renewed.
    pub heartbeat_seconds: u32,
    /// Port of the metrics; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_port: Option<u16>,
    /// The probes, one for each condition type.
    pub probes: Vec<Probe>,
    /// By condition type, the required status. Until a condition has it, its probe runs every
    /// `startupPeriodSeconds`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required: BTreeMap<String, ConditionStatus>,
    /// By condition type, selectors of the nodes on which reporters of older rules write the condition. On
    /// these nodes this reporter does not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub yields: BTreeMap<String, Vec<LabelSelector>>,
}

impl ReporterConfig {
    /// Returns the file's text, with a newline at the end.
    ///
    /// # Errors
    ///
    /// Never in practice, because all of its fields are plain values.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }

    /// Parses the file's text.
    ///
    /// # Errors
    ///
    /// When the text is not JSON of this type; the message names line and field.
    pub fn from_json(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_a_pod_probe() {
        let config = ReporterConfig::from_json(
            r#"{"rule":"cni","heartbeatSeconds":300,"probes":[{"conditionType":"example.com/Ready","httpGet":{"port":9099}}]}"#,
        )
        .unwrap();
        let probe = &config.probes[0];
        assert_eq!(
            (probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds),
            (0, 10, 1)
        );
        assert_eq!(probe.startup_period_seconds, 1);
        assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
    }

    #[test]
    fn a_config_is_equal_after_writing_and_reading() {
        let written = ReporterConfig {
            rule: "cni".into(),
            access: ReporterAccess::AdmissionPolicy,
            metrics_port: Some(9_200),
            heartbeat_seconds: 300,
            probes: vec![
                serde_json::from_str(
                    r#"{"conditionType":"a","httpGet":{"port":1,"path":"/x","scheme":"HTTPS"}}"#,
                )
                .unwrap(),
            ],
            required: [("a".into(), ConditionStatus::True)].into(),
            yields: [("a".into(), vec![LabelSelector::default()])].into(),
        };
        let read = ReporterConfig::from_json(&written.to_json().unwrap()).unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = ReporterConfig::from_json(
            r#"{"rule":"cni","heartbeatSeconds":1,"probes":[],"extra":1}"#,
        )
        .unwrap_err();
        assert!(error.to_string().contains("extra"), "{error}");
    }
}
