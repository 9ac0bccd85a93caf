//! The caches: one watch for each kind, and the store that it keeps for all readers.
//!
//! After the first list, the operator reads objects through these watches only, with few exceptions.

mod nodes;
mod owned;
mod pods;
mod reflect;
mod rules;
mod signals;
mod sync;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::Client;
use kube::runtime::watcher::{self, Event};
use node_readiness_engine::Node;
use tokio::sync::watch;
use tracing::info;

pub(crate) use nodes::NodeStore;
pub(crate) use owned::{OwnedChanges, OwnedStores};
pub(crate) use pods::PodStore;
pub(crate) use reflect::{NODE_WATCH_TIMEOUT_SECONDS, WATCH_TIMEOUT_SECONDS};
pub(crate) use rules::{RuleSets, RuleStore, StoredRule};
pub(crate) use signals::{SignalFailures, SignalObserver, SignalWatches};
use sync::CacheSync;

/// All caches. Clones share them.
#[derive(Clone)]
pub(crate) struct Caches {
    /// Every rule, as stored.
    pub rules: RuleStore,
    /// Every rule, compiled.
    pub rule_sets: RuleSets,
    /// Every node.
    pub nodes: NodeStore,
    /// Every pod of a reporter.
    pub pods: PodStore,
    /// Every object that the operator generated.
    pub owned: OwnedStores,
    /// Whether all caches have synced.
    pub synced: watch::Receiver<bool>,
}

/// The changes in the caches, which trigger the controllers.
pub(crate) struct Changes {
    /// Rules that changed.
    pub rules: BoxStream<'static, watcher::Result<StoredRule>>,
    /// Nodes with a change that a decision can depend on.
    pub nodes: BoxStream<'static, Arc<Node>>,
    /// Pods of reporters that changed.
    pub pods: watch::Receiver<()>,
    /// Generated objects that changed.
    pub owned: OwnedChanges,
}

/// Clients whose read timeout fits the watches that they make.
pub(crate) struct WatchClients {
    /// For the watch of nodes.
    pub nodes: Client,
    /// For all other watches.
    pub others: Client,
}

impl Caches {
    /// Starts all watches. Those of rules and nodes run while their changes are polled, and the future runs the others.
    /// `observe` handles every event of the node watch, heartbeats too.
    pub(crate) fn watch(
        clients: WatchClients,
        namespace: &str,
        observe: impl Fn(&watcher::Result<Event<Node>>, &NodeStore) + Send + Sync + 'static,
    ) -> (Self, Changes, BoxFuture<'static, ()>) {
        let (sync, all_synced) = CacheSync::new();
        let WatchClients { nodes, others } = clients;
        let (rules, rule_sets, rule_changes) = rules::rules(others.clone(), sync.clone());
        let (nodes, node_changes) = nodes::nodes(nodes, sync.clone(), observe);
        let (pods, pod_changes, watch_pods) = pods::pods(others.clone(), namespace, sync.clone());
        let (owned, owned_changes, watch_owned) = owned::owned(&others, namespace, sync);
        let (synced_tx, synced) = watch::channel(false);
        let caches = Self { rules, rule_sets, nodes, pods, owned, synced };
        let changes = Changes {
            rules: rule_changes.boxed(),
            nodes: node_changes.boxed(),
            pods: pod_changes,
            owned: owned_changes,
        };
        let (rules, nodes) = (caches.rules.clone(), caches.nodes.clone());
        let synced = async move {
            all_synced.wait().await;
            info!(rules = rules.len(), nodes = nodes.len(), "the caches have synced");
            synced_tx.send_replace(true);
        };
        let background = async move {
            tokio::join!(synced, watch_pods, watch_owned);
        };
        (caches, changes, background.boxed())
    }
}
