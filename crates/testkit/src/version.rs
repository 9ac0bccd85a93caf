//! The Kubernetes version that the cluster emulates. There is one set of binaries. Older versions are the same
//! binaries with `--emulated-version` (KEP-4330), which removes newer APIs and features.

use std::{fmt, str::FromStr};

/// A Kubernetes version that a cluster can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KubernetesVersion {
    /// The built version, with constrained impersonation on by default.
    #[default]
    V1_37,
    /// 1.35, where constrained impersonation is alpha; its feature gate is on.
    V1_35,
    /// 1.34, which lacks constrained impersonation.
    V1_34,
}

impl KubernetesVersion {
    /// All versions, newest first.
    pub const ALL: [Self; 3] = [Self::V1_37, Self::V1_35, Self::V1_34];

    /// Returns `major.minor`, the form that `--emulated-version` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_37 => "1.37",
            Self::V1_35 => "1.35",
            Self::V1_34 => "1.34",
        }
    }

    /// Returns the version's arguments for scheduler and controller manager. They must emulate the same version as the
    /// API server, because otherwise the scheduler waits forever for resources that the server lacks.
    pub(crate) fn component_arguments(self) -> Vec<String> {
        match self {
            Self::V1_37 => Vec::new(),
            Self::V1_35 | Self::V1_34 => vec![format!("--emulated-version={self}")],
        }
    }

    /// Returns the version's arguments for the API server.
    pub(crate) fn apiserver_arguments(self) -> Vec<String> {
        let mut arguments = self.component_arguments();
        if self == Self::V1_35 {
            arguments.push("--feature-gates=ConstrainedImpersonation=true".to_owned());
        }
        arguments
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::as_str);
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text.trim_start_matches('v'))
            .ok_or_else(|| format!("{text} is not one of {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn every_version_is_parsed_from_its_text() {
        for version in KubernetesVersion::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn the_error_for_an_unknown_version_lists_the_known_ones() {
        let refusal = "1.20".parse::<KubernetesVersion>().unwrap_err();
        assert_eq!(refusal, "1.20 is not one of 1.37, 1.35, 1.34");
    }

    #[test]
    fn only_the_api_server_of_1_35_has_the_feature_gate_flag() {
        let gate = |version: KubernetesVersion| {
            version
                .apiserver_arguments()
                .iter()
                .any(|argument| argument.contains("ConstrainedImpersonation"))
        };
        assert_eq!(KubernetesVersion::ALL.map(gate), [false, true, false]);
        assert_eq!(KubernetesVersion::V1_35.component_arguments(), ["--emulated-version=1.35"]);
    }
}
