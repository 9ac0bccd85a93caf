//! The contract between operator and reporter: what the operator writes into a ConfigMap and reporters follow.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

use crate::{ConditionStatus, Probe};

/// The configuration of the reporters of one set, which may run the probes of several rules. It is JSON under the
/// key [`REPORTER_CONFIG_KEY`](crate::REPORTER_CONFIG_KEY) of the set's ConfigMap, so the reporter needs no YAML
/// parser.
///
/// Unknown fields are refused: a reporter that ignored a field would not do what the rule states. A reporter that
/// refuses a configuration keeps the last one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReporterConfig {
    /// The rules, oldest first. The first rule that covers a node decides a condition there.
    pub rules: Vec<RuleProbes>,
}

/// The probes of one rule.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleProbes {
    /// Name of the rule, for logs.
    pub name: String,
    /// Uid of the rule.
    pub uid: String,
    /// The nodes that the rule covers.
    pub node_selector: LabelSelector,
    /// Seconds after which an unchanged condition is renewed.
    pub heartbeat_seconds: u32,
    /// The probes, one for each condition type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// By condition type, the required status. Until a condition has it, its probe runs every
    /// `startupPeriodSeconds`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required: BTreeMap<String, ConditionStatus>,
    /// The conditions that reporters of another set write for this rule. Where it covers the node, no younger rule
    /// decides them either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written_by_other_set: Vec<String>,
}

impl ReporterConfig {
    /// Returns the rules whose probes run in this set, oldest first.
    pub fn own_rules(&self) -> impl Iterator<Item = &RuleProbes> {
        self.rules.iter().filter(|rule| !rule.probes.is_empty())
    }

    /// Returns the rule with this uid, if its probes run in this set.
    pub fn own_rule(&self, uid: &str) -> Option<&RuleProbes> {
        self.own_rules().find(|rule| rule.uid == uid)
    }

    /// Returns the text, with a newline at the end.
    ///
    /// # Errors
    ///
    /// Never in practice, because all of its fields are plain values.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }

    /// Parses the text.
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

    const CONFIG: &str = r#"{"rules":[{"name":"cni","uid":"u","nodeSelector":{},"heartbeatSeconds":300,
        "probes":[{"conditionType":"example.com/Ready","httpGet":{"port":9099}}]}]}"#;

    #[test]
    fn defaults_are_those_of_a_pod_probe() {
        let config = ReporterConfig::from_json(CONFIG).unwrap();
        let probe = &config.rules[0].probes[0];
        assert_eq!(
            (probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds),
            (0, 10, 1)
        );
        assert_eq!(probe.startup_period_seconds, 1);
        assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
    }

    #[test]
    fn a_config_is_equal_after_writing_and_reading() {
        let mut written = ReporterConfig::from_json(CONFIG).unwrap();
        written.rules[0].required = [("example.com/Ready".into(), ConditionStatus::True)].into();
        let elsewhere = RuleProbes {
            probes: Vec::new(),
            required: BTreeMap::new(),
            written_by_other_set: vec!["example.com/Ready".into()],
            ..written.rules[0].clone()
        };
        written.rules.insert(0, elsewhere);
        let read = ReporterConfig::from_json(&written.to_json().unwrap()).unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        for json in [r#"{"rules":[],"extra":1}"#, &CONFIG.replace("\"uid\"", "\"extra\":1,\"uid\"")]
        {
            let error = ReporterConfig::from_json(json).unwrap_err();
            assert!(error.to_string().contains("extra"), "{error}");
        }
    }
}
