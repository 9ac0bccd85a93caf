//! The watches of generated objects.

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
    /// Returns the metadata of all objects.
    pub(crate) fn metadata(&self) -> Vec<ObjectMeta> {
        fn of<K>(store: &Store<K>) -> Vec<ObjectMeta>
        where
            K: Resource<DynamicType = ()> + Clone,
        {
            store.state().iter().map(|object| object.meta().clone()).collect()
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
        [
            of(service_accounts),
            of(config_maps),
            of(daemon_sets),
            of(roles),
            of(role_bindings),
            of(cluster_roles),
            of(cluster_role_bindings),
            of(policies),
            of(policy_bindings),
        ]
        .concat()
    }

    /// Returns the names of all reporter sets of which there is an object.
    pub(crate) fn reporter_sets(&self) -> BTreeSet<String> {
        let labels = self.metadata().into_iter().filter_map(|metadata| metadata.labels);
        labels.filter_map(|mut labels| labels.remove(REPORTER_SET_LABEL)).collect()
    }
}

/// Watches the objects with the operator's label: namespaced kinds in the reporters' namespace, and
/// cluster-scoped kinds. The receiver is notified when one was changed or deleted. The watches run while the future is
/// polled.
pub(super) fn owned(
    client: &Client,
    namespace: &str,
    sync: CacheSync,
) -> (OwnedStores, watch::Receiver<()>, impl Future<Output = ()> + Send + 'static) {
    let (notify, changes) = watch::channel(());
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
    let watching = watches.streams.for_each(move |()| {
        notify.send_replace(());
        ready(())
    });
    (stores, changes, watching)
}

/// The watches of all kinds, whose changes become one stream.
struct Watches {
    streams: SelectAll<BoxStream<'static, ()>>,
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
                Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => Some(()),
                // The store keeps the old objects until a list is complete.
                Ok(Event::Init | Event::InitApply(_)) | Err(_) => None,
            })
        });
        self.streams.push(changed.boxed());
        store
    }
}
