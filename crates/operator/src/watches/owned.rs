//! The watches of what the operator generates for rules.

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, NodeReadinessRule};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use super::{Reading, StoredRule, persistent};

/// Everything that the operator generated, by kind.
#[derive(Clone)]
pub struct OwnedStores {
    /// Who reporters are.
    pub service_accounts: Store<ServiceAccount>,
    /// What they are told.
    pub config_maps: Store<ConfigMap>,
    /// What runs them.
    pub daemon_sets: Store<DaemonSet>,
    /// What they may do.
    pub cluster_roles: Store<ClusterRole>,
    /// Who may do it.
    pub cluster_role_bindings: Store<ClusterRoleBinding>,
}

/// The stores, and a stream of the rules whose objects changed or went.
pub struct Owned {
    /// The stores.
    pub stores: OwnedStores,
    /// Rules whose objects changed or went.
    pub touched: BoxStream<'static, ObjectRef<StoredRule>>,
}

impl Owned {
    /// Watches what is labelled as the operator's: namespaced kinds in the reporters' namespace,
    /// and cluster-wide ones.
    pub fn watch(client: &Client, namespace: &str, reading: Reading) -> Self {
        let mut touched = Touched { streams: SelectAll::new(), reading };
        let stores = OwnedStores {
            service_accounts: touched
                .watch("ServiceAccounts", Api::namespaced(client.clone(), namespace)),
            config_maps: touched.watch("ConfigMaps", Api::namespaced(client.clone(), namespace)),
            daemon_sets: touched.watch("DaemonSets", Api::namespaced(client.clone(), namespace)),
            cluster_roles: touched.watch("ClusterRoles", Api::all(client.clone())),
            cluster_role_bindings: touched.watch("ClusterRoleBindings", Api::all(client.clone())),
        };
        let touched = touched.streams.boxed();
        Self { stores, touched }
    }
}

/// The rules whose objects changed or went, over all kinds.
struct Touched {
    streams: SelectAll<BoxStream<'static, ObjectRef<StoredRule>>>,
    reading: Reading,
}

impl Touched {
    fn watch<K>(&mut self, what: &'static str, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let touched = persistent(what, watcher(api, ours), writer, self.reading.clone())
            .touched_objects()
            .filter_map(async |object| owner(&object.ok()?));
        self.streams.push(touched.boxed());
        store
    }
}

fn owner<K: Resource>(object: &K) -> Option<ObjectRef<StoredRule>> {
    let kind = NodeReadinessRule::kind(&());
    let owner = object.owner_references().iter().find(|owner| owner.kind == kind)?;
    Some(ObjectRef::new(&owner.name))
}
