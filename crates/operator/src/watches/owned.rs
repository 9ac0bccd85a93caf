//! The watches of what the operator generates for rules.

use futures::StreamExt;
use futures::future::ready;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
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
use std::sync::Arc;
use tokio::sync::Notify;

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
    /// What limits what they, or nodes, may do.
    pub policies: Store<ValidatingAdmissionPolicy>,
    /// What puts it in force.
    pub policy_bindings: Store<ValidatingAdmissionPolicyBinding>,
}

/// The stores, and what happens to what is in them.
pub struct Owned {
    /// The stores.
    pub stores: OwnedStores,
    /// Rules whose objects changed or went.
    pub touched: BoxStream<'static, ObjectRef<StoredRule>>,
    /// Told whenever something changed or went that is no rule's.
    pub fence_touched: Arc<Notify>,
}

impl Owned {
    /// Watches what is labelled as the operator's: namespaced kinds in the reporters' namespace,
    /// and cluster-wide ones.
    pub fn watch(client: &Client, namespace: &str, reading: Reading) -> Self {
        let fence_touched = Arc::new(Notify::new());
        let mut touched =
            Touched { streams: SelectAll::new(), reading, others: Arc::clone(&fence_touched) };
        let stores = OwnedStores {
            service_accounts: touched
                .watch("ServiceAccounts", Api::namespaced(client.clone(), namespace)),
            config_maps: touched.watch("ConfigMaps", Api::namespaced(client.clone(), namespace)),
            daemon_sets: touched.watch("DaemonSets", Api::namespaced(client.clone(), namespace)),
            cluster_roles: touched.watch("ClusterRoles", Api::all(client.clone())),
            cluster_role_bindings: touched.watch("ClusterRoleBindings", Api::all(client.clone())),
            policies: touched.watch("ValidatingAdmissionPolicies", Api::all(client.clone())),
            policy_bindings: touched
                .watch("ValidatingAdmissionPolicyBindings", Api::all(client.clone())),
        };
        Self { stores, touched: touched.streams.boxed(), fence_touched }
    }
}

/// The rules whose objects changed or went, over all kinds.
struct Touched {
    streams: SelectAll<BoxStream<'static, ObjectRef<StoredRule>>>,
    reading: Reading,
    /// Told of what is no rule's.
    others: Arc<Notify>,
}

impl Touched {
    fn watch<K>(&mut self, what: &'static str, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let others = Arc::clone(&self.others);
        let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let touched = persistent(what, watcher(api, ours), writer, self.reading.clone())
            .touched_objects()
            .filter_map(move |object| {
                let rule = object.ok().and_then(|object| owner(&object));
                if rule.is_none() {
                    others.notify_one();
                }
                ready(rule)
            });
        self.streams.push(touched.boxed());
        store
    }
}

fn owner<K: Resource>(object: &K) -> Option<ObjectRef<StoredRule>> {
    let kind = NodeReadinessRule::kind(&());
    let owner = object.owner_references().iter().find(|owner| owner.kind == kind)?;
    Some(ObjectRef::new(&owner.name))
}
