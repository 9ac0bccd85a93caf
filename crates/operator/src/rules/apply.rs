//! Bringing a rule's reporters to where they should be, by server-side apply.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{
    DIGEST_ANNOTATION, MANAGED_BY, NodeReadinessRule, RULE_UID_LABEL, ReporterStatus,
};
use node_readiness_engine::contains;
use node_readiness_engine::reporter::{ReporterObjects, digest_of};
use node_readiness_engine::status::Reporters;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tracing::info;

use crate::leadership::{Leadership, NotWritten};
use crate::watches::OwnedStores;

/// A generated object could not be applied or deleted.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The API server refused, or could not be reached.
    #[error("{kind} {name} could not be {verb}: {cause}")]
    Refused {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What was tried.
        verb: &'static str,
        /// The API server's words.
        cause: String,
    },
    /// An object could not be written as JSON.
    #[error("{kind} {name} could not be written as JSON: {cause}")]
    Encode {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        cause: serde_json::Error,
    },
}

/// Writes what is generated for rules.
pub(super) struct Applier {
    client: Client,
    leadership: Leadership,
    namespace: String,
}

impl Applier {
    pub(super) fn new(client: Client, leadership: Leadership, namespace: &str) -> Self {
        Self { client, leadership, namespace: namespace.to_owned() }
    }

    /// Applies what a rule should have, in the order that [`ReporterObjects`] states, and deletes
    /// what it should not. An object that is as it should be is not written.
    pub(super) async fn apply(
        &self,
        rule: &NodeReadinessRule,
        desired: Option<&ReporterObjects>,
        stores: &OwnedStores,
    ) -> Result<Reporters, ApplyError> {
        let uid = rule.uid().unwrap_or_default();
        let Some(desired) = desired else {
            self.delete_all(&uid, stores).await?;
            return Ok(Reporters::None);
        };
        // Every field by name: one that is added does not compile until it is applied.
        let ReporterObjects {
            service_account,
            impersonator_role,
            impersonator_binding,
            status_role,
            status_binding,
            config_map,
            daemon_set,
        } = desired;
        let (roles, bindings) = (&stores.cluster_roles, &stores.cluster_role_bindings);
        self.ensure(&self.namespaced(), service_account, &stores.service_accounts).await?;
        self.ensure(&self.cluster(), impersonator_role, roles).await?;
        self.ensure(&self.cluster(), status_role, roles).await?;
        self.ensure(&self.cluster(), impersonator_binding, bindings).await?;
        self.ensure(&self.cluster(), status_binding, bindings).await?;
        self.ensure(&self.namespaced(), config_map, &stores.config_maps).await?;
        let live = self.ensure(&self.namespaced(), daemon_set, &stores.daemon_sets).await?;
        Ok(reporters(&live))
    }

    /// Deletes everything generated for a rule, the pods first: a reporter that has lost its
    /// permissions would only fill the log.
    async fn delete_all(&self, uid: &str, stores: &OwnedStores) -> Result<(), ApplyError> {
        let OwnedStores {
            service_accounts,
            config_maps,
            daemon_sets,
            cluster_roles,
            cluster_role_bindings,
        } = stores;
        self.delete(&self.namespaced(), uid, daemon_sets).await?;
        self.delete(&self.namespaced(), uid, config_maps).await?;
        self.delete(&self.cluster(), uid, cluster_role_bindings).await?;
        self.delete(&self.cluster(), uid, cluster_roles).await?;
        self.delete(&self.namespaced(), uid, service_accounts).await
    }

    /// Applies an object unless it is in the cluster as wanted, and returns it as it is there.
    async fn ensure<K>(&self, api: &Api<K>, wanted: &K, store: &Store<K>) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = wanted.name_any();
        let encode = |cause| ApplyError::Encode { kind: kind::<K>(), name: name.clone(), cause };
        let mut wanted = wanted.clone();
        let digest = digest_of(&wanted).map_err(encode)?;
        wanted.annotations_mut().insert(DIGEST_ANNOTATION.to_owned(), digest);

        if let Some(live) = store.get(&ObjectRef::from_obj(&wanted)) {
            let as_json = |object: &K| serde_json::to_value(object).map_err(encode);
            if contains(&as_json(&live)?, &as_json(&wanted)?) {
                return Ok((*live).clone());
            }
        }
        let params = PatchParams::apply(MANAGED_BY).force();
        let applied = self
            .leadership
            .write(api.patch(&name, &params, &Patch::Apply(&wanted)))
            .await
            .map_err(|cause| refused::<K>(&name, "applied", cause))?;
        info!(kind = kind::<K>(), name, "applied");
        Ok(applied)
    }

    /// Deletes every object that was generated for a rule.
    async fn delete<K>(
        &self,
        api: &Api<K>,
        rule_uid: &str,
        store: &Store<K>,
    ) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let theirs = store.state_filter(|object| {
            object.labels().get(RULE_UID_LABEL).is_some_and(|uid| uid == rule_uid)
                && object.meta().deletion_timestamp.is_none()
        });
        for object in theirs {
            let name = object.name_any();
            let params = DeleteParams {
                // One of the same name that was made in between is somebody else's.
                preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            match self.leadership.write(api.delete(&name, &params)).await {
                Ok(_) => info!(kind = kind::<K>(), name, "deleted"),
                Err(NotWritten::Failed(kube::Error::Api(status)))
                    if matches!(status.code, 404 | 409) => {}
                Err(cause) => return Err(refused::<K>(&name, "deleted", cause)),
            }
        }
        Ok(())
    }

    fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn cluster<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>,
    {
        Api::all(self.client.clone())
    }
}

fn refused<K: Resource<DynamicType = ()>>(
    name: &str,
    verb: &'static str,
    cause: NotWritten<kube::Error>,
) -> ApplyError {
    let cause = match cause {
        NotWritten::Failed(kube::Error::Api(status)) => status.message,
        other => other.to_string(),
    };
    ApplyError::Refused { kind: kind::<K>(), name: name.to_owned(), verb, cause }
}

fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}

/// How the reporters of a rule are whose objects are to be left alone.
pub(super) fn observe(desired: Option<&ReporterObjects>, stores: &OwnedStores) -> Reporters {
    let wanted = desired.map(|objects| ObjectRef::from_obj(&objects.daemon_set));
    let live = wanted.and_then(|wanted| stores.daemon_sets.get(&wanted));
    live.map_or(Reporters::None, |daemon_set| reporters(&daemon_set))
}

fn reporters(daemon_set: &DaemonSet) -> Reporters {
    let namespace = daemon_set.namespace().unwrap_or_default();
    let name = format!("{namespace}/{}", daemon_set.name_any());
    match &daemon_set.status {
        // Counts of an older generation say nothing about this one.
        Some(status) if status.observed_generation == daemon_set.metadata.generation => {
            Reporters::Applied(ReporterStatus {
                daemon_set: name,
                desired: status.desired_number_scheduled,
                ready: status.number_ready,
            })
        }
        _ => Reporters::Starting(name),
    }
}
