//! Labels and annotations of a node: a few pairs of text, most of which other nodes have too.

use std::fmt;
use std::marker::PhantomData;

use kube::core::{Expression, Selector};
use node_readiness_api::{BOOT_ID_ANNOTATION, BOOTSTRAP_COMPLETED_PREFIX, CLAIMS_ANNOTATION};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Interned;

/// Pairs of key and value, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Interned, Interned)]>);

impl Labels {
    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[found].1)
    }

    /// Returns all pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl FromIterator<(Interned, Interned)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Interned, Interned)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort();
        Self(pairs.into())
    }
}

/// Which pairs are kept.
pub(crate) trait Keep {
    fn keeps(key: &str) -> bool;
}

/// All of them.
#[derive(Debug)]
pub(crate) struct All;

/// This project's annotations.
#[derive(Debug)]
pub(crate) struct Own;

impl Keep for All {
    fn keeps(_: &str) -> bool {
        true
    }
}

impl Keep for Own {
    fn keeps(key: &str) -> bool {
        [CLAIMS_ANNOTATION, BOOT_ID_ANNOTATION].contains(&key)
            || key.starts_with(BOOTSTRAP_COMPLETED_PREFIX)
    }
}

/// Pairs as read, of which some are kept.
pub(crate) struct Kept<K>(pub(crate) Labels, PhantomData<K>);

impl<'de, K: Keep> Deserialize<'de> for Kept<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<K>(PhantomData<K>);
        impl<'de, K: Keep> Visitor<'de> for Pairs<K> {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<Interned>()? {
                    if K::keeps(&key) {
                        pairs.push((key, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(pairs.into_iter().collect())
            }
        }
        deserializer
            .deserialize_map(Pairs::<K>(PhantomData))
            .map(|labels| Self(labels, PhantomData))
    }
}

/// A compiled label selector of a rule.
///
/// kube's [`Selector`] has the same meaning, but needs a map that owns all of its strings, which a node does
/// not have here.
#[derive(Clone, Debug)]
pub(crate) struct CompiledSelector(Box<[Expression]>);

impl CompiledSelector {
    pub(crate) fn new(selector: Selector) -> Self {
        Self(selector.into_iter().collect())
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|wanted| match wanted {
            Expression::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Expression::NotIn(key, values) => !labels.get(key).is_some_and(|v| values.contains(v)),
            Expression::Equal(key, value) => labels.get(key) == Some(value),
            Expression::NotEqual(key, value) => labels.get(key) != Some(value),
            Expression::Exists(key) => labels.get(key).is_some(),
            Expression::DoesNotExist(key) => labels.get(key).is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kube::core::SelectorExt;

    use super::*;

    #[test]
    fn every_operator_has_the_same_meaning_as_in_kube() {
        let values = || BTreeSet::from(["x".to_owned(), "y".to_owned()]);
        let key = || "a".to_owned();
        let expressions = [
            Expression::In(key(), values()),
            Expression::NotIn(key(), values()),
            Expression::Equal(key(), "x".to_owned()),
            Expression::NotEqual(key(), "x".to_owned()),
            Expression::Exists(key()),
            Expression::DoesNotExist(key()),
        ];
        let nodes = [vec![], vec![("a", "x")], vec![("a", "z")], vec![("b", "x"), ("c", "y")]];
        for (expression, node) in expressions.iter().flat_map(|e| nodes.iter().map(move |n| (e, n)))
        {
            let selector = Selector::from(expression.clone());
            let owned = node.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let expected = selector.matches(&owned.collect::<BTreeMap<_, _>>());
            let labels = node.iter().map(|(k, v)| (Interned::new(k), Interned::new(v))).collect();
            assert_eq!(
                CompiledSelector::new(selector).matches(&labels),
                expected,
                "{expression:?} {node:?}"
            );
        }
    }
}
