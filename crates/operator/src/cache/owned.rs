//! The watches of generated objects.

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
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, NodeReadinessRule};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

use super::reflect::{WATCH_TIMEOUT_SECONDS, persistent};
use super::rules::StoredRule;
use super::sync::CacheSync;

/// The generated objects, by kind.
#[derive(Clone)]
pub(crate) struct OwnedStores {
    /// Identities of reporters.
    pub service_accounts: Store<ServiceAccount>,
    /// Configurations of reporters.
    pub config_maps: Store<ConfigMap>,
    /// Pods of reporters.
    pub daemon_sets: Store<DaemonSet>,
    /// Permissions.
    pub cluster_roles: Store<ClusterRole>,
    /// Bindings of permissions.
    pub cluster_role_bindings: Store<ClusterRoleBinding>,
    /// Policies that limit permissions.
    pub policies: Store<ValidatingAdmissionPolicy>,
    /// Bindings of policies.
    pub policy_bindings: Store<ValidatingAdmissionPolicyBinding>,
}

/// The changes of generated objects.
pub(crate) struct OwnedChanges {
    /// Rules with a changed or deleted object.
    pub rules: BoxStream<'static, ObjectRef<StoredRule>>,
    /// Notified when an object that belongs to no rule changed or was deleted: a guard policy.
    pub policies: Arc<Notify>,
    /// Changes whenever a kind was listed again. Changes during an interruption of the watch are in no
    /// other member.
    pub relisted: watch::Receiver<()>,
}

/// Watches the objects with the operator's label: namespaced kinds in the reporters' namespace, and
/// cluster-scoped kinds.
pub(super) fn owned(
    client: &Client,
    namespace: &str,
    sync: CacheSync,
) -> (OwnedStores, OwnedChanges) {
    let policies = Arc::new(Notify::new());
    let (relisted_tx, relisted) = watch::channel(());
    let mut watches = Watches {
        streams: SelectAll::new(),
        sync,
        policies: Arc::clone(&policies),
        relisted: relisted_tx,
    };
    let stores = OwnedStores {
        service_accounts: watches
            .watch("ServiceAccounts", Api::namespaced(client.clone(), namespace)),
        config_maps: watches.watch("ConfigMaps", Api::namespaced(client.clone(), namespace)),
        daemon_sets: watches.watch("DaemonSets", Api::namespaced(client.clone(), namespace)),
        cluster_roles: watches.watch("ClusterRoles", Api::all(client.clone())),
        cluster_role_bindings: watches.watch("ClusterRoleBindings", Api::all(client.clone())),
        policies: watches.watch("ValidatingAdmissionPolicies", Api::all(client.clone())),
        policy_bindings: watches
            .watch("ValidatingAdmissionPolicyBindings", Api::all(client.clone())),
    };
    (stores, OwnedChanges { rules: watches.streams.boxed(), policies, relisted })
}

/// The watches of all kinds, whose changes become one stream of rules.
struct Watches {
    streams: SelectAll<BoxStream<'static, ObjectRef<StoredRule>>>,
    sync: CacheSync,
    policies: Arc<Notify>,
    relisted: watch::Sender<()>,
}

impl Watches {
    fn watch<K>(&mut self, what: &'static str, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let (policies, relisted) = (Arc::clone(&self.policies), self.relisted.clone());
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let ours = watcher::Config::default().labels(&ours).timeout(WATCH_TIMEOUT_SECONDS);
        let events = persistent(what, watcher(api, ours), writer, self.sync.clone());
        let changed = events.filter_map(move |event| {
            ready(match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => {
                    let rule = owner(&object);
                    if rule.is_none() {
                        policies.notify_one();
                    }
                    rule
                }
                Ok(Event::InitDone) => {
                    policies.notify_one();
                    relisted.send_replace(());
                    None
                }
                // The store keeps the old objects until a list is complete.
                Ok(Event::Init | Event::InitApply(_)) | Err(_) => None,
            })
        });
        self.streams.push(changed.boxed());
        store
    }
}

fn owner<K: Resource>(object: &K) -> Option<ObjectRef<StoredRule>> {
    let kind = NodeReadinessRule::kind(&());
    let owner = object.owner_references().iter().find(|owner| owner.kind == kind)?;
    Some(ObjectRef::new(&owner.name))
}
