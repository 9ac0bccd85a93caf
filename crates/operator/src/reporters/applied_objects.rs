//! The state of generated objects after an apply: the changes that admission made, and whether the watch has
//! shown the applied version.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::write_backoff::WriteBackoff;

/// Objects by kind, namespace and name.
#[derive(Debug, Default)]
pub(crate) struct AppliedObjects {
    /// Backoff for repeated applies of the same content.
    pub(crate) write_backoff: WriteBackoff,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A hash of the difference between an object and the applied content, right after the apply.
    accepted: HashMap<String, u64>,
    /// Applied objects that the watch has not shown yet, with the version that it showed before.
    unseen: HashMap<String, Option<String>>,
}

impl AppliedObjects {
    /// Returns whether an object differs from the desired one in the same way as right after the apply.
    pub(crate) fn is_accepted(
        &self,
        object: &str,
        content: u64,
        found: &[(String, Value)],
    ) -> bool {
        self.lock().accepted.get(object) == Some(&hash_of(&(content, found)))
    }

    /// Accepts the difference from the applied object. Returns whether it is new.
    pub(crate) fn accept(&self, object: &str, content: u64, found: &[(String, Value)]) -> bool {
        let difference = hash_of(&(content, found));
        self.lock().accepted.insert(object.to_owned(), difference) != Some(difference)
    }

    /// Records an apply, with the version that the watch showed before.
    pub(crate) fn applied(&self, object: &str, content: u64, shown: Option<String>) {
        self.write_backoff.written(object, content);
        self.lock().unseen.insert(object.to_owned(), shown);
    }

    /// Returns whether the watch still shows the version from before the last apply. Then no other client caused
    /// the difference.
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

/// Returns a hash of a value's JSON.
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
    fn only_the_accepted_difference_from_the_same_content_is_accepted() {
        let objects = AppliedObjects::default();
        let found = |image: &str| vec![("spec.image".to_owned(), json!(image))];
        assert!(objects.accept("a", 1, &found("mirror")));
        assert!(!objects.accept("a", 1, &found("mirror")), "the same difference is not new");
        assert!(objects.is_accepted("a", 1, &found("mirror")));
        assert!(!objects.is_accepted("a", 1, &found("by hand")));
        assert!(!objects.is_accepted("a", 2, &found("mirror")));
        assert!(!objects.is_accepted("b", 1, &found("mirror")));
    }

    #[test]
    fn an_apply_is_unseen_until_the_watch_shows_another_version() {
        let objects = AppliedObjects::default();
        assert!(!objects.is_unseen("a", None));
        objects.applied("a", 1, None);
        assert!(objects.is_unseen("a", None));
        assert!(!objects.is_unseen("a", Some("5")));
        // The watch has shown the object, so it is missing because it was deleted.
        assert!(!objects.is_unseen("a", None));
    }
}
