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

use super::ownership;
use crate::leadership::{Leadership, NotWritten};
use crate::refusal;
use crate::watches::OwnedStores;

/// A resourceVersion that no object has. An apply with it creates what is not there and is refused
/// with 409 where anything is: the API server compares the versions of what exists, and of nothing
/// else (`Update` in `registry/generic/registry/store.go`).
///
/// A POST would do the same, and leave the fields to a manager of another kind (operation `Update`),
/// from which no later apply could take those that are generated no more.
const NO_VERSION: &str = "9223372036854775807";

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
    /// An object of that name is there, and is not the rule's.
    #[error(
        "{kind} {name} is {whose}, and is left as it is; delete it, or give the NodeReadinessRule \
         another name"
    )]
    Taken {
        /// Kind of the object.
        kind: String,
        /// Its namespace, if it has one, and name.
        name: String,
        /// Whose it is.
        whose: String,
    },
    /// An object of that name is there, and is that of a rule that is gone.
    #[error(
        "{kind} {name} is that of an earlier NodeReadinessRule of this name, and is waited for: \
         Kubernetes' garbage collector removes it"
    )]
    Left {
        /// Kind of the object.
        kind: String,
        /// Its namespace, if it has one, and name.
        name: String,
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

impl ApplyError {
    /// How the reporters are for which this is why they do not run as they should.
    pub(super) fn reporters(&self) -> Reporters {
        match self {
            Self::Taken { .. } | Self::Left { .. } => Reporters::NameTaken(self.to_string()),
            Self::Refused { .. } | Self::Encode { .. } => Reporters::Failed(self.to_string()),
        }
    }
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

    /// Applies an object unless it is in the cluster as wanted, and returns it as it is there. One of
    /// that name that is not the rule's is never written.
    async fn ensure<K>(&self, api: &Api<K>, wanted: &K, store: &Store<K>) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = wanted.name_any();
        let encode = |cause| ApplyError::Encode { kind: kind::<K>(), name: name.clone(), cause };
        let mut wanted = wanted.clone();
        let digest = digest_of(&wanted).map_err(encode)?;
        wanted.annotations_mut().insert(DIGEST_ANNOTATION.to_owned(), digest);

        let known = store.get(&ObjectRef::from_obj(&wanted));
        if let Some(live) = &known {
            ownership::check(&**live, &wanted)?;
            let as_json = |object: &K| serde_json::to_value(object).map_err(encode);
            if contains(&as_json(live)?, &as_json(&wanted)?) {
                return Ok((**live).clone());
            }
        }
        let replaces = known.and_then(|live| live.uid());
        let applied = match self.send(api, &wanted, replaces.clone()).await {
            // It is there, though not among what is watched: it is somebody else's, or its labels
            // were edited, or it was made a moment ago.
            Err(NotWritten::Failed(kube::Error::Api(status)))
                if status.code == 409 && replaces.is_none() =>
            {
                let read = self.leadership.write(api.get_metadata(&name)).await;
                let there = read.map_err(|cause| refused::<K>(&name, "read", &cause))?;
                ownership::check(&there, &wanted)?;
                self.send(api, &wanted, there.uid()).await
            }
            other => other,
        };
        let applied = applied.map_err(|cause| refused::<K>(&name, "applied", &cause))?;
        info!(kind = kind::<K>(), name, "applied");
        Ok(applied)
    }

    /// Applies an object in place of the one of that uid, or where there is none.
    async fn send<K>(
        &self,
        api: &Api<K>,
        wanted: &K,
        replaces: Option<String>,
    ) -> Result<K, NotWritten<kube::Error>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let mut wanted = wanted.clone();
        if replaces.is_none() {
            wanted.meta_mut().resource_version = Some(NO_VERSION.to_owned());
        }
        wanted.meta_mut().uid = replaces;
        let params = PatchParams::apply(MANAGED_BY).force();
        self.leadership.write(api.patch(&wanted.name_any(), &params, &Patch::Apply(&wanted))).await
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
                Err(cause) => return Err(refused::<K>(&name, "deleted", &cause)),
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
    cause: &NotWritten<kube::Error>,
) -> ApplyError {
    let cause = refusal::of_write(cause).message;
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
