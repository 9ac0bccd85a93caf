//! Decides which rules have reporters.

use kube::Resource;
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::Rule;
use node_readiness_engine::reporter::{
    Allowances, ConstrainedImpersonation, Member, Refusal, admit,
};

use super::guard::{Guard, GuardState};
use crate::cache::StoredRule;

/// What happens to the reporters of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// It has no probes.
    NoProbes,
    /// It asks for more than is allowed.
    Refused(Refusal),
    /// Reporters run the probes of its spec.
    Current,
    /// It is suspended or cannot be read, so its reporters stay as they are.
    Kept,
    /// It waits for the guard. Until then its reporters stay as they are.
    AwaitsGuard,
    /// The guard could not be applied. Until then its reporters stay as they are.
    GuardFailed(String),
    /// It is deleted.
    Deleted,
}

/// What decisions depend on besides the rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) allowances: &'a Allowances,
    pub(super) impersonation: ConstrainedImpersonation,
    pub(super) guard: &'a Guard,
}

impl Decision {
    /// Decides about one rule.
    pub(super) fn of(rule: &StoredRule, limits: Limits<'_>) -> Self {
        if rule.meta().deletion_timestamp.is_some() {
            return Self::Deleted;
        }
        match &rule.0 {
            Ok(rule) if Rule::compile(rule).is_ok() => Self::of_readable(rule, limits),
            _ => Self::Kept,
        }
    }

    fn of_readable(rule: &NodeReadinessRule, limits: Limits<'_>) -> Self {
        let Limits { allowances, impersonation, guard } = limits;
        if rule.spec.suspend {
            return Self::Kept;
        }
        if rule.spec.probes.is_empty() {
            return Self::NoProbes;
        }
        if let Err(refusal) = admit(rule, allowances, impersonation) {
            return Self::Refused(refusal);
        }
        match guard.state_for(rule) {
            GuardState::InForce(_) => Self::Current,
            GuardState::Pending => Self::AwaitsGuard,
            GuardState::Failed(cause) => Self::GuardFailed(cause),
        }
    }

    /// Returns whether reporters keep what they have of the rule.
    pub(super) fn keeps(&self) -> bool {
        matches!(self, Self::Kept | Self::AwaitsGuard | Self::GuardFailed(_))
    }

    /// Returns the rule as a member of a reporter set, if it is one.
    pub(super) fn member<'a>(&self, rule: &'a StoredRule) -> Option<Member<'a>> {
        match (self, &rule.0) {
            (Self::Current, Ok(rule)) => Some(Member::Current(rule)),
            _ => self.keeps().then(|| Member::Kept(rule.meta())),
        }
    }
}
