//! The state of each rule's reporters, as the reporter controller publishes it.

use std::collections::{HashMap, HashSet};

use kube::ResourceExt;
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::status::Reporters;

/// The state of all rules' reporters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ReporterStates {
    /// By uid of the rule, with the generation that the state is of.
    states: HashMap<String, (Option<i64>, Reporters)>,
    /// Uids of deleted rules without reporters.
    released: HashSet<String>,
}

impl ReporterStates {
    /// Sets the state of a rule.
    pub(super) fn set(&mut self, uid: &str, generation: Option<i64>, reporters: Reporters) {
        self.states.insert(uid.to_owned(), (generation, reporters));
    }

    /// Marks a deleted rule as without reporters.
    pub(super) fn release(&mut self, uid: &str) {
        self.released.insert(uid.to_owned());
    }

    /// Returns the state of a rule. Returns `None` if the controller has not handled this generation yet.
    pub(crate) fn of(&self, rule: &NodeReadinessRule) -> Option<&Reporters> {
        let (generation, reporters) = self.states.get(&rule.uid()?)?;
        (*generation == rule.metadata.generation).then_some(reporters)
    }

    /// Returns whether a rule's conditions are written by reporters.
    pub(crate) fn has_reporters(&self, uid: &str) -> bool {
        let state = self.states.get(uid).map(|(_, reporters)| reporters);
        !matches!(state, None | Some(Reporters::None | Reporters::Refused(_)))
    }

    /// Returns whether a deleted rule has no reporters any more.
    pub(crate) fn is_released(&self, uid: &str) -> bool {
        self.released.contains(uid)
    }
}
