//! Sets of nodes by their labels, and the node affinity that has pods run on them.
//!
//! They are worked out from selectors alone: no node is looked at, so what follows from them does
//! not change as nodes come and go. Which rule makes which probe where is decided in
//! [`conflict`](super::conflict).

use std::collections::{BTreeMap, BTreeSet};
use std::ptr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};
use kube::core::{Expression, Selector};

/// How many terms the affinity of a DaemonSet has at most. Kubernetes has no limit of its own; this
/// one keeps the object small, and what it cuts off nobody could read.
pub const MAX_TERMS: usize = 64;

/// Nodes by their labels: those that match one of some terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSet {
    terms: Vec<Term>,
}

/// What each of some labels must be. No label is impossible, and one that may be anything is not
/// among them. Terms are made of others' parts, and so share them.
type Term = BTreeMap<Arc<str>, Arc<Allowed>>;

/// What a label may be, where `None` is that the node does not have it.
///
/// `Only` has either `None` alone or nothing but values, since that is what one requirement can say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    Only(BTreeSet<Option<String>>),
    AllBut(BTreeSet<Option<String>>),
}

impl NodeSet {
    /// The nodes that a selector matches.
    pub fn of(selector: Selector) -> Self {
        let whole = Some(Term::new());
        let term = selector.into_iter().fold(whole, |term, expression| {
            let (key, allowed) = Allowed::by(expression);
            narrowed(&term?, &key.into(), &Arc::new(allowed))
        });
        Self { terms: term.into_iter().collect() }
    }

    /// No node.
    pub(super) fn none() -> Self {
        Self { terms: Vec::new() }
    }

    /// Whether no node can be among them, whatever its labels.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a node can be among these and those.
    pub fn meets(&self, other: &Self) -> bool {
        self.terms.iter().any(|a| other.terms.iter().any(|b| !are_disjoint(a, b)))
    }

    /// These nodes without those; `None` if that takes more than [`MAX_TERMS`] terms.
    pub fn without(&self, other: &Self) -> Option<Self> {
        other.terms.iter().try_fold(self.clone(), |left, term| left.without_term(term))
    }

    /// These nodes and those; `None` if that takes more than [`MAX_TERMS`] terms.
    pub fn and(mut self, other: Self) -> Option<Self> {
        other.terms.into_iter().for_each(|term| self.add(term));
        (self.terms.len() <= MAX_TERMS).then_some(self)
    }

    /// Not (a and b) is (not a) or (not b): a term for each label that the other asks for.
    fn without_term(&self, other: &Term) -> Option<Self> {
        let negated = other.iter().flat_map(|(key, allowed)| {
            allowed.negated().into_iter().map(move |rest| (key, allowed, Arc::new(rest)))
        });
        let negated: Vec<_> = negated.collect();
        let mut left = Self::none();
        for term in &self.terms {
            if are_disjoint(term, other) {
                left.add(term.clone());
                continue;
            }
            for (key, allowed, rest) in &negated {
                // Where the term asks no less of the label nothing is left.
                if term.get(*key).is_some_and(|known| known.is_within(allowed)) {
                    continue;
                }
                let Some(rest) = narrowed(term, key, rest) else { continue };
                left.add(rest);
                // Before anything is worked out of what is too much already: who writes rules is not to
                // keep the operator busy.
                if left.terms.len() > MAX_TERMS {
                    return None;
                }
            }
        }
        (left.terms.len() <= MAX_TERMS).then_some(left)
    }

    /// Adds a term, unless the others have its nodes, in place of those whose nodes it has.
    fn add(&mut self, term: Term) {
        if self.terms.iter().any(|known| includes(known, &term)) {
            return;
        }
        self.terms.retain(|known| !includes(&term, known));
        self.terms.push(term);
    }

    /// The affinity of pods that are to run on these nodes and no others; `None` for every node. A
    /// plain node selector could not carry expressions.
    ///
    /// Requirements of a node affinity mean what those of a label selector do: `NotIn` matches a node
    /// without the label as well. A term without requirements would match no node.
    pub fn affinity(&self) -> Option<Affinity> {
        if self.terms.iter().any(Term::is_empty) {
            return None;
        }
        let terms = self.terms.iter().map(|term| NodeSelectorTerm {
            match_expressions: Some(term.iter().flat_map(requirements).collect()),
            match_fields: None,
        });
        Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: terms.collect(),
                }),
                preferred_during_scheduling_ignored_during_execution: None,
            }),
            ..Affinity::default()
        })
    }
}

/// A term that also asks this of a label; `None` if no node can meet it.
fn narrowed(term: &Term, key: &Arc<str>, allowed: &Arc<Allowed>) -> Option<Term> {
    let allowed = match term.get(key) {
        Some(known) if known.is_within(allowed) => Arc::clone(known),
        Some(known) => Arc::new(known.intersection(allowed)),
        None => Arc::clone(allowed),
    };
    if *allowed == Allowed::Only(BTreeSet::new()) {
        return None;
    }
    let mut narrowed = term.clone();
    if *allowed != Allowed::AllBut(BTreeSet::new()) {
        narrowed.insert(Arc::clone(key), allowed);
    }
    Some(narrowed)
}

/// Whether no node can meet both terms.
fn are_disjoint(a: &Term, b: &Term) -> bool {
    a.iter().any(|(key, one)| b.get(key).is_some_and(|other| one.excludes(other)))
}

/// Whether every node that meets the second term meets the first.
fn includes(outer: &Term, inner: &Term) -> bool {
    outer.iter().all(|(key, allowed)| inner.get(key).is_some_and(|known| known.is_within(allowed)))
}

impl Allowed {
    /// The label that an expression is about, and what it lets that be.
    fn by(expression: Expression) -> (String, Self) {
        let some = |values: BTreeSet<String>| values.into_iter().map(Some).collect();
        match expression {
            Expression::In(key, values) => (key, Self::Only(some(values))),
            Expression::NotIn(key, values) => (key, Self::AllBut(some(values))),
            Expression::Equal(key, value) => (key, Self::Only([Some(value)].into())),
            Expression::NotEqual(key, value) => (key, Self::AllBut([Some(value)].into())),
            Expression::Exists(key) => (key, Self::AllBut([None].into())),
            Expression::DoesNotExist(key) => (key, Self::Only([None].into())),
        }
    }

    fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a & b),
            (Self::Only(a), Self::AllBut(b)) | (Self::AllBut(b), Self::Only(a)) => {
                Self::Only(a - b)
            }
            (Self::AllBut(a), Self::AllBut(b)) => Self::AllBut(a | b),
        }
    }

    /// Whether whatever this lets a label be, the other does, too. A label can have more values than any
    /// set names.
    fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            // Terms share most of what they ask, so that few sets have to be gone through.
            _ if ptr::eq(self, other) => true,
            (Self::Only(a), Self::Only(b)) => a.is_subset(b),
            (Self::Only(a), Self::AllBut(b)) => a.is_disjoint(b),
            (Self::AllBut(_), Self::Only(_)) => false,
            (Self::AllBut(a), Self::AllBut(b)) => b.is_subset(a),
        }
    }

    /// Whether no label is what both let it be.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            _ if ptr::eq(self, other) => false,
            (Self::Only(a), Self::Only(b)) => a.is_disjoint(b),
            (Self::Only(a), Self::AllBut(b)) | (Self::AllBut(b), Self::Only(a)) => a.is_subset(b),
            (Self::AllBut(_), Self::AllBut(_)) => false,
        }
    }

    /// What a label may be instead. "Not there, or one of these" takes two.
    fn negated(&self) -> Vec<Self> {
        match self {
            Self::Only(values) => vec![Self::AllBut(values.clone())],
            Self::AllBut(values) => {
                let (absent, values): (BTreeSet<_>, BTreeSet<_>) =
                    values.iter().cloned().partition(Option::is_none);
                [absent, values].into_iter().filter(|v| !v.is_empty()).map(Self::Only).collect()
            }
        }
    }
}

/// What is asked of one label, in the words of a node affinity.
fn requirements((key, allowed): (&Arc<str>, &Arc<Allowed>)) -> Vec<NodeSelectorRequirement> {
    let requirement = |operator: &str, values: Option<Vec<String>>| NodeSelectorRequirement {
        key: key.to_string(),
        operator: operator.to_owned(),
        values,
    };
    let (set, presence, listing) = match &**allowed {
        Allowed::Only(set) => (set, "DoesNotExist", "In"),
        Allowed::AllBut(set) => (set, "Exists", "NotIn"),
    };
    let values: Vec<_> = set.iter().flatten().cloned().collect();
    let presence = set.contains(&None).then(|| requirement(presence, None));
    let listing = (!values.is_empty()).then(|| requirement(listing, Some(values)));
    presence.into_iter().chain(listing).collect()
}
