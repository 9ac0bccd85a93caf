//! Names of generated objects.

use super::digest;

/// Longest part of a rule's name that is taken over. With prefix and suffix a name stays a DNS
/// label, which is the tightest limit of the objects that bear it.
const MAX_STEM: usize = 35;

/// Names of what is generated for one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReporterNames {
    /// Of the ServiceAccount, ConfigMap and DaemonSet.
    pub namespaced: String,
    /// Of the role that lets a reporter impersonate its node, and of its binding.
    pub impersonator: String,
    /// Of the role that lets this identity update the node's status, and of its binding.
    pub status_updater: String,
    /// Of the policy that limits what they may do, and of its binding.
    pub policy: String,
}

impl ReporterNames {
    /// The names for a rule. Different rules get different names.
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

/// The rule's name if it is a short DNS label. Otherwise, and where it looks like a name made this
/// way, what fits of it and a digest of the whole.
fn stem(rule: &str) -> String {
    if rule.len() <= MAX_STEM && !rule.contains('.') && !ends_in_digest(rule) {
        return rule.to_owned();
    }
    let digest = digest(rule);
    // Rule names are DNS subdomains, so ASCII.
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
    fn a_short_name_is_taken_over() {
        assert_eq!(ReporterNames::of("cni").namespaced, "reporter-cni");
        assert_eq!(ReporterNames::of("cni").impersonator, "nrr-reporter-cni-impersonator");
    }

    #[test]
    fn names_are_dns_labels_however_long_the_rules_is() {
        let names = ReporterNames::of(&"a.".repeat(126));
        let ReporterNames { namespaced, impersonator, status_updater, policy } = names;
        for name in [namespaced, impersonator, status_updater, policy] {
            assert!(name.len() <= 63, "{name} is too long");
            assert!(!name.contains('.') && !name.contains("--"), "{name}");
        }
    }

    #[test]
    fn names_that_differ_stay_different() {
        let long = "a".repeat(60);
        let dotted = stem("a.b");
        let rules = ["a.b", "a-b", &dotted, &long, &format!("{long}b"), &stem(&long)];
        let mut stems: Vec<_> = rules.iter().map(|rule| stem(rule)).collect();
        stems.sort();
        stems.dedup();
        assert_eq!(stems.len(), rules.len(), "{stems:?}");
    }
}
