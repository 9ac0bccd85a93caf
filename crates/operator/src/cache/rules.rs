//! The watch of rules, and the compiled rules for the node controller.

use std::borrow::Cow;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::{Rule, RuleSet, Unreadable};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::watch;

use super::reflect::{WATCH_TIMEOUT_SECONDS, changed_objects, persistent};
use super::sync::CacheSync;

/// A stored rule, which this version may not be able to read.
///
/// This is kube's `DeserializeGuard` without `managedFields`, which every rule author can fill. The API server
/// accepts times there that the operator cannot parse. Then `DeserializeGuard` would fail, and with it the list of
/// all rules.
#[derive(Clone, Debug)]
pub(crate) struct StoredRule(pub Result<NodeReadinessRule, InvalidObject>);

impl<'de> Deserialize<'de> for StoredRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let guarded = DeserializeGuard::deserialize(object).map_err(D::Error::custom)?;
        Ok(Self(guarded.0))
    }
}

impl Resource for StoredRule {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        NodeReadinessRule::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        NodeReadinessRule::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        NodeReadinessRule::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        NodeReadinessRule::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, Resource::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, Resource::meta_mut)
    }
}

/// Every rule.
pub(crate) type RuleStore = Store<StoredRule>;

/// All rules, compiled; `None` until the watch has synced.
pub(crate) type RuleSets = watch::Receiver<Option<Arc<RuleSet>>>;

/// Watches rules. The stream yields each changed rule.
pub(super) fn rules(
    client: kube::Client,
    sync: CacheSync,
) -> (RuleStore, RuleSets, impl Stream<Item = watcher::Result<StoredRule>> + Send + 'static) {
    let (store, writer) = reflector::store();
    let (publish, set) = watch::channel(None);
    let known = store.clone();
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS);
    let watch = watcher(Api::<StoredRule>::all(client), config);
    let what = "NodeReadinessRules (if they are not installed: make install)";
    let changes = persistent(what, watch, writer, sync).inspect(move |event| {
        // The store is not complete during a list.
        if matches!(event, Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone)) {
            let next = rule_set(&known);
            publish.send_if_modified(|current: &mut Option<Arc<RuleSet>>| {
                let changed = !current.as_ref().is_some_and(|known| known.is_equivalent(&next));
                if changed {
                    *current = Some(Arc::new(next));
                }
                changed
            });
        }
    });
    (store.clone(), set, changed_objects(changes, store))
}

fn rule_set(store: &RuleStore) -> RuleSet {
    let mut rules = Vec::new();
    let mut unreadable = Vec::new();
    for stored in store.state() {
        match stored.0.as_ref().map(Rule::compile) {
            Ok(Ok(rule)) => rules.push(rule),
            // A deleted rule needs no evaluation, whether or not it can be read.
            _ if stored.meta().deletion_timestamp.is_some() => {}
            _ => unreadable.push(Unreadable {
                name: stored.name_any(),
                uid: stored.uid().unwrap_or_default(),
            }),
        }
    }
    RuleSet::new(rules, unreadable)
}
