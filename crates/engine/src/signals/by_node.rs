//! The facts of one watch, by the node that they are about.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Fact;

/// A fact with the time of its observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) fact: Fact,
    /// When the fact was first observed, in milliseconds of watching.
    pub(super) seen: u64,
}

/// The facts of one watch.
#[derive(Debug, Default)]
pub(super) struct ByNode {
    /// By name of the node: name of the object, and its fact.
    nodes: HashMap<Arc<str>, Vec<(Arc<str>, Observed)>>,
    /// The node of each object.
    objects: HashMap<Arc<str>, Arc<str>>,
    /// The objects of a list that is not complete.
    listed: Option<HashSet<Arc<str>>>,
    /// Whether a list was complete.
    pub(super) synced: bool,
}

impl ByNode {
    /// Returns the facts about a node.
    pub(super) fn of(&self, node: &str) -> impl Iterator<Item = &Observed> {
        self.nodes.get(node).into_iter().flatten().map(|(_, observed)| observed)
    }

    /// Begins a list.
    pub(super) fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// Ends a list: removes what it does not have. Returns the nodes of removed facts.
    pub(super) fn end_list(&mut self) -> Vec<Arc<str>> {
        self.synced = true;
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone = self.objects.keys().filter(|object| !listed.contains(*object));
        let gone: Vec<_> = gone.cloned().collect();
        gone.iter().filter_map(|object| self.delete(object)).collect()
    }

    /// Sets the fact of an object. Returns the nodes about which something changed.
    pub(super) fn apply(
        &mut self,
        object: &str,
        node: Option<&str>,
        fact: Fact,
        now: u64,
    ) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        if self.objects.get(object).is_some_and(|known| Some(&**known) != node) {
            changed.extend(self.delete(object));
        }
        let Some(node) = node else { return changed };
        let (node, object) = (shared(&self.nodes, node), shared(&self.objects, object));
        if let Some(listed) = &mut self.listed {
            listed.insert(Arc::clone(&object));
        }
        let facts = self.nodes.entry(Arc::clone(&node)).or_default();
        match facts.iter_mut().find(|(known, _)| *known == object) {
            Some((_, known)) if known.fact == fact => return changed,
            Some((_, known)) => {
                let seen = if is_of_same_containers(&known.fact, &fact) { known.seen } else { now };
                *known = Observed { fact, seen };
            }
            None => {
                facts.push((Arc::clone(&object), Observed { fact, seen: now }));
                self.objects.insert(object, Arc::clone(&node));
            }
        }
        changed.push(node);
        changed
    }

    /// Removes an object. Returns its node.
    pub(super) fn delete(&mut self, object: &str) -> Option<Arc<str>> {
        let node = self.objects.remove(object)?;
        if let Some(facts) = self.nodes.get_mut(&node) {
            facts.retain(|(known, _)| **known != *object);
            if facts.is_empty() {
                self.nodes.remove(&node);
            }
        }
        Some(node)
    }
}

fn shared<V>(known: &HashMap<Arc<str>, V>, name: &str) -> Arc<str> {
    known.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
}

fn is_of_same_containers(known: &Fact, next: &Fact) -> bool {
    matches!((known, next), (Fact::Pod { containers: a, .. }, Fact::Pod { containers: b, .. }) if a == b)
}
