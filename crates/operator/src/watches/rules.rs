//! The watch of rules, and the rule set that the node path reads.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use node_readiness_api::NodeReadinessRule;
use node_readiness_engine::{Rule, RuleSet, Unreadable};
use tokio::sync::watch;

use super::{LASTS, Reading, persistent, settled};

/// A rule as it is stored, which may have a form that this version cannot read.
pub type StoredRule = DeserializeGuard<NodeReadinessRule>;

/// Every rule.
pub type RuleStore = Store<StoredRule>;

/// Watches rules. The stream yields each rule that changed; the receiver has the set of them all,
/// `None` until they have been read for the first time.
pub fn rules(
    client: kube::Client,
    reading: Reading,
) -> (
    RuleStore,
    watch::Receiver<Option<Arc<RuleSet>>>,
    impl Stream<Item = watcher::Result<StoredRule>> + Send + 'static,
) {
    let (store, writer) = reflector::store();
    let (publish, set) = watch::channel(None);
    let known = store.clone();
    let config = watcher::Config::default().timeout(LASTS);
    let watch = watcher(Api::<StoredRule>::all(client), config);
    let what = "NodeReadinessRules (if they are not installed: make install)";
    let changes = persistent(what, watch, writer, reading).inspect(move |event| {
        // While a list is being read the store is not complete.
        if matches!(event, Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone)) {
            let next = rule_set(&known);
            publish.send_if_modified(|current: &mut Option<Arc<RuleSet>>| {
                let news = !current.as_ref().is_some_and(|known| known.is_equivalent(&next));
                if news {
                    *current = Some(Arc::new(next));
                }
                news
            });
        }
    });
    (store.clone(), set, settled(changes, store))
}

fn rule_set(store: &RuleStore) -> RuleSet {
    let mut rules = Vec::new();
    let mut unreadable = Vec::new();
    for stored in store.state() {
        match stored.0.as_ref().map(Rule::compile) {
            Ok(Ok(rule)) => rules.push(rule),
            // One that is being deleted wants nothing, readable or not.
            _ if stored.meta().deletion_timestamp.is_some() => {}
            _ => unreadable.push(Unreadable {
                name: stored.name_any(),
                uid: stored.uid().unwrap_or_default(),
            }),
        }
    }
    RuleSet::new(rules, unreadable)
}
