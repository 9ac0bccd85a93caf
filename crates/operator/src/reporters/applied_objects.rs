//! What is known of generated objects after they were applied: how admission changed them, and whether
//! the watch has shown them yet.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::write_backoff::WriteBackoff;

/// Objects by kind, namespace and name.
#[derive(Debug, Default)]
pub(crate) struct AppliedObjects {
    /// What was applied to each, with the waits before it is applied again.
    pub(crate) write_backoff: WriteBackoff,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A hash of how an object differed from what was applied, right after it was applied.
    accepted: HashMap<String, u64>,
    /// Objects that were applied and that the watch has not shown since, with the version that it
    /// showed before, if any.
    unseen: HashMap<String, Option<String>>,
}

impl AppliedObjects {
    /// Whether an object differs from what is wanted just as it did right after that was applied.
    pub(crate) fn is_accepted(
        &self,
        object: &str,
        content: u64,
        found: &[(String, Value)],
    ) -> bool {
        self.lock().accepted.get(object) == Some(&hash_of(&(content, found)))
    }

    /// Accepts how an object differs from what was applied. Returns whether that is new.
    pub(crate) fn accept(&self, object: &str, content: u64, found: &[(String, Value)]) -> bool {
        let difference = hash_of(&(content, found));
        self.lock().accepted.insert(object.to_owned(), difference) != Some(difference)
    }

    /// Records that an object was applied, of which the watch showed this version before.
    pub(crate) fn applied(&self, object: &str, content: u64, shown: Option<String>) {
        self.write_backoff.written(object, content);
        self.lock().unseen.insert(object.to_owned(), shown);
    }

    /// Whether the watch still shows what was there before the last apply. What it shows then is no
    /// sign that somebody changed the object.
    pub(crate) fn is_unseen(&self, object: &str, shown: Option<&str>) -> bool {
        let mut state = self.lock();
        let Some(before) = state.unseen.get(object) else { return false };
        let is_unseen = before.as_deref() == shown;
        if !is_unseen {
            state.unseen.remove(object);
        }
        is_unseen
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hash of a value by its JSON.
pub(crate) fn hash_of(value: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(value).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_difference_is_not_accepted_nor_the_same_from_other_content() {
        let objects = AppliedObjects::default();
        let found = |image: &str| vec![("spec.image".to_owned(), json!(image))];
        assert!(objects.accept("a", 1, &found("mirror")));
        assert!(!objects.accept("a", 1, &found("mirror")), "it is news once");
        assert!(objects.is_accepted("a", 1, &found("mirror")));
        assert!(!objects.is_accepted("a", 1, &found("by hand")));
        assert!(!objects.is_accepted("a", 2, &found("mirror")));
        assert!(!objects.is_accepted("b", 1, &found("mirror")));
    }

    #[test]
    fn a_watch_that_is_behind_shows_no_change_of_somebody() {
        let objects = AppliedObjects::default();
        assert!(!objects.is_unseen("a", None));
        objects.applied("a", 1, None);
        assert!(objects.is_unseen("a", None));
        assert!(!objects.is_unseen("a", Some("5")));
        // It was shown, so that it is missing now means that it was deleted.
        assert!(!objects.is_unseen("a", None));
    }
}
