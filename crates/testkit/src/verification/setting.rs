//! A setting of the matrix: the access of reporters, and the guard.

use std::fmt;

use crate::version::KubernetesVersion;

/// The access of a reporter, `spec.reporter.access` of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The reporter acts as its node (KEP-5284).
    ConstrainedImpersonation,
    /// The reporter acts as its ServiceAccount, limited by a policy.
    AdmissionPolicy,
}

impl Access {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ConstrainedImpersonation, Self::AdmissionPolicy];

    /// Returns whether this Kubernetes version supports the access.
    pub fn exists_on(self, version: KubernetesVersion) -> bool {
        self == Self::AdmissionPolicy || version != KubernetesVersion::V1_34
    }
}

/// The operator's flag `--guard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// No node may change the operator's records.
    Records,
    /// In addition, an impersonated node may change only conditions that rules probe.
    Strict,
}

impl Guard {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Records, Self::Strict];
}

/// One way to run reporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Their access.
    pub access: Access,
    /// The guard.
    pub guard: Guard,
}

/// The name as in a rule.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConstrainedImpersonation => "ConstrainedImpersonation",
            Self::AdmissionPolicy => "AdmissionPolicy",
        })
    }
}

/// The name as on the operator's command line.
impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Records => "records",
            Self::Strict => "strict",
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, guard {}", self.access, self.guard)
    }
}
