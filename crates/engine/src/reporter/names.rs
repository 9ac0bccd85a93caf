//! Names of generated objects.

use super::digest;

/// The maximum number of characters of a rule's name that are used. With prefix and suffix a name is a DNS label,
/// which is the tightest limit of these objects.
const MAX_STEM: usize = 35;

/// Names of the objects of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReporterNames {
    /// The ServiceAccount, ConfigMap and DaemonSet.
    pub namespaced: String,
    /// The role that permits a reporter to impersonate its node, and its binding.
    pub impersonator: String,
    /// The role that permits this identity to update the node's status, and its binding.
    pub status_updater: String,
    /// The policy that limits the permissions, and its binding.
    pub policy: String,
}

impl ReporterNames {
    /// Returns the names for a rule. Different rules get different names.
    pub fn of(rule: &str) -> Self {
        let stem = stem(rule);
        Self {
            namespaced: format!("reporter-{stem}"),
            impersonator: format!("nrr-reporter-{stem}-impersonator"),
            status_updater: format!("nrr-reporter-{stem}-status-updater"),
            policy: format!("nrr-reporter-{stem}-own-conditions"),
        }
    }
}

/// Returns the rule's name if it is a short DNS label. Otherwise, and if it looks like a generated one, returns
/// the start of the name and a digest of the whole.
fn stem(rule: &str) -> String {
    if rule.len() <= MAX_STEM && !rule.contains('.') && !ends_in_digest(rule) {
        return rule.to_owned();
    }
    let digest = digest(rule);
    // Rule names are DNS subdomains, so they are ASCII.
    let cut: String = rule.replace('.', "-").chars().take(MAX_STEM - digest.len() - 1).collect();
    format!("{}-{digest}", cut.trim_end_matches('-'))
}

fn ends_in_digest(rule: &str) -> bool {
    rule.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == digest("").len() && end.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_rule_name_is_used_unchanged() {
        assert_eq!(ReporterNames::of("cni").namespaced, "reporter-cni");
        assert_eq!(ReporterNames::of("cni").impersonator, "nrr-reporter-cni-impersonator");
    }

    #[test]
    fn names_are_dns_labels_for_a_rule_name_of_any_length() {
        let names = ReporterNames::of(&"a.".repeat(126));
        let ReporterNames { namespaced, impersonator, status_updater, policy } = names;
        for name in [namespaced, impersonator, status_updater, policy] {
            assert!(name.len() <= 63, "{name} is too long");
            assert!(!name.contains('.') && !name.contains("--"), "{name}");
        }
    }

    #[test]
    fn different_rules_have_different_names() {
        let long = "a".repeat(60);
        let dotted = stem("a.b");
        let rules = ["a.b", "a-b", &dotted, &long, &format!("{long}b"), &stem(&long)];
        let mut stems: Vec<_> = rules.iter().map(|rule| stem(rule)).collect();
        stems.sort();
        stems.dedup();
        assert_eq!(stems.len(), rules.len(), "{stems:?}");
    }
}
