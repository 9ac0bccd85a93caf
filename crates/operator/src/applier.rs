//! Bringing generated objects to where they should be, by server-side apply.

use std::fmt::Debug;

use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{DIGEST_ANNOTATION, MANAGED_BY};
use node_readiness_engine::admission::Guard;
use node_readiness_engine::contains;
use node_readiness_engine::reporter::digest_of;
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

/// An object as it is in the cluster, once it is as wanted.
pub(crate) struct Ensured<K> {
    pub(crate) object: K,
    /// Whether that took a write.
    pub(crate) written: bool,
}

/// Writes generated objects.
#[derive(Clone)]
pub(crate) struct Applier {
    client: Client,
    leadership: Leadership,
    namespace: String,
}

impl Applier {
    /// `namespace` is that of the reporters.
    pub(crate) fn new(client: Client, leadership: Leadership, namespace: &str) -> Self {
        Self { client, leadership, namespace: namespace.to_owned() }
    }

    /// Applies an object unless it is in the cluster as wanted.
    pub(crate) async fn ensure<K>(
        &self,
        api: &Api<K>,
        wanted: &K,
        store: &Store<K>,
    ) -> Result<Ensured<K>, ApplyError>
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
                return Ok(Ensured { object: (*live).clone(), written: false });
            }
        }
        let params = PatchParams::apply(MANAGED_BY).force();
        let object = self
            .leadership
            .write(api.patch(&name, &params, &Patch::Apply(&wanted)))
            .await
            .map_err(|cause| refused::<K>(&name, "applied", cause))?;
        info!(kind = kind::<K>(), name, "applied");
        Ok(Ensured { object, written: true })
    }

    /// Applies a policy and what puts it in force, and says whether that took a write.
    pub(crate) async fn put_in_place(
        &self,
        guard: &Guard,
        stores: &OwnedStores,
    ) -> Result<bool, ApplyError> {
        let Guard { policy, binding } = guard;
        let policy = self.ensure(&self.cluster(), policy, &stores.policies).await?;
        let binding = self.ensure(&self.cluster(), binding, &stores.policy_bindings).await?;
        Ok(policy.written || binding.written)
    }

    /// Deletes generated objects, and says how many there were.
    pub(crate) async fn delete<K>(
        &self,
        api: &Api<K>,
        store: &Store<K>,
        which: impl Fn(&K) -> bool,
    ) -> Result<usize, ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let going = store
            .state_filter(|object| object.meta().deletion_timestamp.is_none() && which(object));
        for object in &going {
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
        Ok(going.len())
    }

    /// A kind in the reporters' namespace.
    pub(crate) fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A kind of the whole cluster.
    pub(crate) fn cluster<K>(&self) -> Api<K>
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
