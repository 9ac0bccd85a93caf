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
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, NodeReadinessRule};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

use super::{LASTS, Reading, StoredRule, persistent};

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
    pub guard_touched: Arc<Notify>,
    /// Changes whenever a kind was listed anew: whatever changed or went while nobody watched is not
    /// among the rest.
    pub listed_anew: watch::Receiver<()>,
}

impl Owned {
    /// Watches what is labelled as the operator's: namespaced kinds in the reporters' namespace,
    /// and cluster-wide ones.
    pub fn watch(client: &Client, namespace: &str, reading: Reading) -> Self {
        let guard_touched = Arc::new(Notify::new());
        let (anew, listed_anew) = watch::channel(());
        let others = Arc::clone(&guard_touched);
        let mut touched = Touched { streams: SelectAll::new(), reading, others, anew };
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
        Self { stores, touched: touched.streams.boxed(), guard_touched, listed_anew }
    }
}

/// The rules whose objects changed or went, over all kinds.
struct Touched {
    streams: SelectAll<BoxStream<'static, ObjectRef<StoredRule>>>,
    reading: Reading,
    /// Told of what is no rule's.
    others: Arc<Notify>,
    anew: watch::Sender<()>,
}

impl Touched {
    fn watch<K>(&mut self, what: &'static str, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let (others, anew) = (Arc::clone(&self.others), self.anew.clone());
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let ours = watcher::Config::default().labels(&ours).timeout(LASTS);
        let events = persistent(what, watcher(api, ours), writer, self.reading.clone());
        let touched = events.filter_map(move |event| {
            ready(match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => {
                    let rule = owner(&object);
                    if rule.is_none() {
                        others.notify_one();
                    }
                    rule
                }
                Ok(Event::InitDone) => {
                    others.notify_one();
                    anew.send_replace(());
                    None
                }
                // Until a list is complete the store has what was there before it.
                Ok(Event::Init | Event::InitApply(_)) | Err(_) => None,
            })
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
