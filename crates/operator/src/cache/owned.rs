//! The watches of generated objects.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Debug;

use futures::StreamExt;
use futures::future::ready;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL, REPORTER_SET_LABEL};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::reflect::{WATCH_TIMEOUT_SECONDS, persistent};
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
    /// Permissions for configurations.
    pub roles: Store<Role>,
    /// Bindings of these permissions.
    pub role_bindings: Store<RoleBinding>,
    /// Permissions for Nodes.
    pub cluster_roles: Store<ClusterRole>,
    /// Bindings of these permissions.
    pub cluster_role_bindings: Store<ClusterRoleBinding>,
    /// Policies that limit permissions.
    pub policies: Store<ValidatingAdmissionPolicy>,
    /// Bindings of policies.
    pub policy_bindings: Store<ValidatingAdmissionPolicyBinding>,
}

impl OwnedStores {
    /// Visits the metadata of all objects.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&ObjectMeta)) {
        fn each<K>(store: &Store<K>, visit: &mut impl FnMut(&ObjectMeta))
        where
            K: Resource<DynamicType = ()> + Clone,
        {
            store.state().iter().for_each(|object| visit(object.meta()));
        }
        let Self {
            service_accounts,
            config_maps,
            daemon_sets,
            roles,
            role_bindings,
            cluster_roles,
            cluster_role_bindings,
            policies,
            policy_bindings,
        } = self;
        each(service_accounts, &mut visit);
        each(config_maps, &mut visit);
        each(daemon_sets, &mut visit);
        each(roles, &mut visit);
        each(role_bindings, &mut visit);
        each(cluster_roles, &mut visit);
        each(cluster_role_bindings, &mut visit);
        each(policies, &mut visit);
        each(policy_bindings, &mut visit);
    }

    /// Returns whether an object has metadata that passes.
    pub(crate) fn any(&self, passes: impl Fn(&ObjectMeta) -> bool) -> bool {
        let mut found = false;
        self.for_each(|metadata| found |= passes(metadata));
        found
    }

    /// Returns the names of all reporter sets of which there is an object.
    pub(crate) fn reporter_sets(&self) -> BTreeSet<String> {
        let mut sets = BTreeSet::new();
        self.for_each(|metadata| {
            let labels = metadata.labels.as_ref();
            sets.extend(labels.and_then(|labels| labels.get(REPORTER_SET_LABEL)).cloned());
        });
        sets
    }
}

/// The changes of generated objects. Each receiver is notified when an object was changed or deleted.
pub(crate) struct OwnedChanges {
    /// Objects of any kind.
    pub all: watch::Receiver<()>,
    /// Policies and their bindings.
    pub policies: watch::Receiver<()>,
}

/// Watches the objects with the operator's label: namespaced kinds in the reporters' namespace, and
/// cluster-scoped kinds. The watches run while the future is polled.
pub(super) fn owned(
    client: &Client,
    namespace: &str,
    sync: CacheSync,
) -> (OwnedStores, OwnedChanges, impl Future<Output = ()> + Send + 'static) {
    let (notify_all, all) = watch::channel(());
    let (notify_policies, policies) = watch::channel(());
    let mut watches = Watches { streams: SelectAll::new(), sync };
    let stores = OwnedStores {
        service_accounts: watches
            .watch("ServiceAccounts", Api::namespaced(client.clone(), namespace)),
        config_maps: watches.watch("ConfigMaps", Api::namespaced(client.clone(), namespace)),
        daemon_sets: watches.watch("DaemonSets", Api::namespaced(client.clone(), namespace)),
        roles: watches.watch("Roles", Api::namespaced(client.clone(), namespace)),
        role_bindings: watches.watch("RoleBindings", Api::namespaced(client.clone(), namespace)),
        cluster_roles: watches.watch("ClusterRoles", Api::all(client.clone())),
        cluster_role_bindings: watches.watch("ClusterRoleBindings", Api::all(client.clone())),
        policies: watches.watch("ValidatingAdmissionPolicies", Api::all(client.clone())),
        policy_bindings: watches
            .watch("ValidatingAdmissionPolicyBindings", Api::all(client.clone())),
    };
    let watching = watches.streams.for_each(move |kind| {
        notify_all.send_replace(());
        if kind.starts_with("ValidatingAdmissionPolicy") {
            notify_policies.send_replace(());
        }
        ready(())
    });
    (stores, OwnedChanges { all, policies }, watching)
}

/// The watches of all kinds, whose changes become one stream of kinds.
struct Watches {
    streams: SelectAll<BoxStream<'static, Cow<'static, str>>>,
    sync: CacheSync,
}

impl Watches {
    fn watch<K>(&mut self, what: &'static str, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let ours = watcher::Config::default().labels(&ours).timeout(WATCH_TIMEOUT_SECONDS);
        let events = persistent(what, watcher(api, ours), writer, self.sync.clone());
        let changed = events.filter_map(|event| {
            ready(match event {
                Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => Some(K::kind(&())),
                // The store keeps the old objects until a list is complete.
                Ok(Event::Init | Event::InitApply(_)) | Err(_) => None,
            })
        });
        self.streams.push(changed.boxed());
        store
    }
}
