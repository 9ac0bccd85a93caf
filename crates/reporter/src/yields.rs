//! Which conditions are left to reporters of other rules, by the labels of the Node.
//!
//! Two rules may probe one condition on only some of their nodes. Which of these a reporter runs on it
//! sees when it reads its Node, which it does before each write and at no other time.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt as _};

/// By condition type, the nodes on which others write it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Yields(BTreeMap<String, Vec<Selector>>);

impl Yields {
    /// Leaves each condition to others on the nodes that one of its selectors matches.
    pub fn new(selectors: BTreeMap<String, Vec<Selector>>) -> Self {
        Self(selectors)
    }

    /// Whether another reporter writes a condition on a node with these labels.
    pub(crate) fn covers(&self, condition_type: &str, labels: &BTreeMap<String, String>) -> bool {
        let selectors = self.0.get(condition_type);
        selectors.is_some_and(|selectors| selectors.iter().any(|one| one.matches(labels)))
    }

    /// Whether no condition is left to anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
