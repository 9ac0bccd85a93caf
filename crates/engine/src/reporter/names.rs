//! Names of generated objects.

use node_readiness_api::ReporterOptions;
use serde_json::Value;

use super::digest;

/// Name of the reporter set with default pod settings, and the start of the names of all others.
const DEFAULT: &str = "reporter";

/// Names of the objects of one reporter set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReporterNames {
    /// The set itself. Its namespaced objects have the same name.
    pub set: String,
    /// The cluster role that permits a reporter to impersonate its node, and its binding.
    pub impersonator: String,
    /// The cluster role that permits this identity to update the node's status, and its binding.
    pub status_updater: String,
    /// The policy that limits the permissions, and its binding.
    pub policy: String,
}

impl ReporterNames {
    /// Returns the names for a set.
    pub fn of(set: &str) -> Self {
        Self {
            set: set.to_owned(),
            impersonator: format!("nrr-{set}-impersonator"),
            status_updater: format!("nrr-{set}-status-updater"),
            policy: format!("nrr-{set}-own-conditions"),
        }
    }
}

/// Returns the name of the set with these pod settings: all options except the heartbeat.
///
/// Only options that differ from the default count. So an option that a later version adds does not rename the
/// sets that do not use it.
///
/// # Errors
///
/// When the options cannot be written as JSON, which plain values always can.
pub fn set_name(options: &ReporterOptions) -> serde_json::Result<String> {
    let defaults = ReporterOptions::default();
    let heartbeat_seconds = defaults.heartbeat_seconds;
    let settings = ReporterOptions { heartbeat_seconds, ..options.clone() };
    let (mut settings, defaults) =
        (serde_json::to_value(settings)?, serde_json::to_value(defaults)?);
    if let Value::Object(settings) = &mut settings {
        settings.retain(|option, value| defaults.get(option) != Some(value));
        if settings.is_empty() {
            return Ok(DEFAULT.to_owned());
        }
    }
    Ok(format!("{DEFAULT}-{}", digest(&settings.to_string())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(options: Value) -> String {
        set_name(&serde_json::from_value(options).unwrap()).unwrap()
    }

    #[test]
    fn default_pod_settings_have_the_plain_name() {
        let same = json!({"heartbeatSeconds": 10, "access": "ConstrainedImpersonation"});
        for options in [json!({}), same, json!({"hostNetwork": true, "podLabels": {}})] {
            assert_eq!(name(options), "reporter");
        }
        assert_eq!(ReporterNames::of("reporter").impersonator, "nrr-reporter-impersonator");
    }

    #[test]
    fn different_pod_settings_have_different_names_and_the_heartbeat_is_none() {
        let image = name(json!({"image": "a"}));
        assert_eq!(name(json!({"image": "a", "heartbeatSeconds": 10})), image);
        let names = [
            image,
            name(json!({})),
            name(json!({"image": "b"})),
            name(json!({"access": "AdmissionPolicy"})),
            name(json!({"tolerations": []})),
            name(json!({"metricsPort": 9200})),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(!names[index + 1..].contains(name), "{names:?}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        let ReporterNames { set, impersonator, status_updater, policy } =
            ReporterNames::of(&name(json!({"image": "a"})));
        for name in [set, impersonator, status_updater, policy] {
            assert!(name.len() <= 63, "{name} is too long");
        }
    }
}
