//! Decides which rules have reporters.

use std::collections::BTreeSet;

use kube::Resource;
use node_readiness_api::{NodeReadinessRule, ReporterAccess};
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
    /// There is no guard in force. Until then its reporters stay as they are.
    AwaitsGuard,
    /// The guard in force does not admit its conditions yet. Its pods are started meanwhile, and reporters that run its
    /// probes stay as they are.
    AwaitsConditions,
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
        match &*guard.state() {
            GuardState::InForce(types) if admits(types, rule) => Self::Current,
            GuardState::InForce(_) => Self::AwaitsConditions,
            GuardState::Pending => Self::AwaitsGuard,
            GuardState::Failed(cause) => Self::GuardFailed(cause.clone()),
        }
    }

    /// Returns whether reporters keep what they have of the rule.
    pub(super) fn keeps(&self) -> bool {
        matches!(
            self,
            Self::Kept | Self::AwaitsGuard | Self::AwaitsConditions | Self::GuardFailed(_)
        )
    }

    /// Returns the rule as a member of a reporter set, if it is one.
    pub(super) fn member<'a>(&self, rule: &'a StoredRule) -> Option<Member<'a>> {
        match (self, &rule.0) {
            (Self::Current, Ok(rule)) => Some(Member::Current(rule)),
            (Self::AwaitsConditions, Ok(rule)) => Some(Member::Waiting(rule)),
            _ => self.keeps().then(|| Member::Kept(rule.meta())),
        }
    }
}

/// Returns whether a guard that admits these conditions admits those of a rule.
fn admits(types: &BTreeSet<String>, rule: &NodeReadinessRule) -> bool {
    let access = rule.spec.reporter.as_ref().map(|reporter| reporter.access).unwrap_or_default();
    access != ReporterAccess::ConstrainedImpersonation
        || rule.spec.probes.iter().all(|probe| types.contains(&probe.condition_type))
}
