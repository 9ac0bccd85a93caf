//! Text that many nodes share, stored once.
//!
//! Names of labels, conditions and taints, and most of their values, are the same on every node of a cluster.
//! Stored for each node, they would be most of its memory.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is stored once for all of its users.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interned(Arc<str>);

/// All texts in use, and some that are no longer used.
#[derive(Default)]
struct Pool {
    texts: HashSet<Arc<str>>,
    /// How many bytes may be added before unused texts are dropped.
    left: usize,
}

/// The minimum of `Pool::left`, in bytes, after unused texts are dropped.
const LEAST: usize = 64 * 1024;

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

impl Interned {
    /// Returns the shared text.
    pub(crate) fn new(text: &str) -> Self {
        // A panic elsewhere leaves the set of texts intact.
        Self(POOL.lock().unwrap_or_else(PoisonError::into_inner).share(text))
    }
}

impl Pool {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.left < text.len() {
            self.drop_unused();
        }
        self.left = self.left.saturating_sub(text.len());
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// Drops unused texts. The pool drops them again after an eighth of the remaining bytes was added, which
    /// bounds both memory and time.
    fn drop_unused(&mut self) {
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        let used: usize = self.texts.iter().map(|text| text.len()).sum();
        self.left = LEAST.max(used / 8);
    }
}

impl Deref for Interned {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Interned {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Interned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Default for Interned {
    fn default() -> Self {
        Self::new("")
    }
}

impl Serialize for Interned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Interned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Interned;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Interned, E> {
                Ok(Interned::new(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_stored_once() {
        let (a, b) = (Interned::new("interned::same"), Interned::new("interned::same"));
        assert!(Arc::ptr_eq(&a.0, &b.0));
        assert_ne!(a, Interned::new("interned::other"));
    }

    #[test]
    fn unused_texts_are_dropped() {
        let mut pool = Pool::default();
        let used: Vec<_> = (0..10).map(|n| pool.share(&format!("used {n}"))).collect();
        let large = "x".repeat(1000);
        for n in 0..1000 {
            pool.share(&format!("{large}{n}"));
        }
        assert!(pool.texts.len() < 100, "{} texts", pool.texts.len());
        assert!(used.iter().all(|text| pool.texts.contains(text)));
    }
}
