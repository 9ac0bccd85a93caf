//! Applies generated objects by server-side apply.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{DIGEST_ANNOTATION, MANAGED_BY};
use node_readiness_engine::admission::BoundPolicy;
use node_readiness_engine::differences;
use node_readiness_engine::reporter::digest_of;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::applied_objects::{AppliedObjects, hash_of};
use super::error::ApplyError;
use super::ownership;
use crate::api_error;
use crate::cache::OwnedStores;
use crate::leader::{Leadership, NotWritten};
use crate::telemetry::Events;

/// A resourceVersion that no object has. An apply with it creates a missing object and is refused with 409 if
/// the object exists: the API server compares versions only of existing objects (`Update` in
/// `registry/generic/registry/store.go`).
///
/// A POST would record the fields under a manager with the operation `Update`, from which no later apply could
/// remove fields that are no longer generated.
const NO_VERSION: &str = "9223372036854775807";

/// The members that identify an object.
const IDENTITY: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// An object in the cluster, after it was ensured.
pub(crate) struct Ensured<K> {
    pub(crate) object: K,
    /// Whether it was written.
    pub(crate) written: bool,
    /// The first accepted difference: an admission policy set the field, or another field manager added an item
    /// to a list.
    pub(crate) changed: Option<String>,
}

/// The kinds that grant or limit permissions. The operator removes what others add to them, because one more
/// match condition could disable a policy.
const EXACT: [&str; 6] = [
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// Applies and deletes generated objects.
#[derive(Clone)]
pub(crate) struct Applier {
    client: Client,
    leadership: Leadership,
    events: Events,
    namespace: String,
    applied: Arc<AppliedObjects>,
}

impl Applier {
    /// Creates an applier for objects in the reporters' namespace.
    pub(crate) fn new(
        client: Client,
        leadership: Leadership,
        events: Events,
        namespace: &str,
    ) -> Self {
        Self {
            client,
            leadership,
            events,
            namespace: namespace.to_owned(),
            applied: Arc::default(),
        }
    }

    /// Applies an object unless the cluster has it as desired. Never writes a foreign object of that name.
    ///
    /// Accepts the changes that admission makes during an apply, so that the two do not overwrite each other for
    /// ever. Reverts later changes by others, with exponential backoff if they repeat.
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
        let as_json = |object: &K| serde_json::to_value(object).map_err(encode);
        let mut wanted = wanted.clone();
        let digest = digest_of(&wanted).map_err(encode)?;
        wanted.annotations_mut().insert(DIGEST_ANNOTATION.to_owned(), digest);

        let wanted_json = as_json(&wanted)?;
        let (key, content) = (key(&wanted), hash_of(&wanted_json));
        let known = store.get(&ObjectRef::from_obj(&wanted));
        let shown = known.as_ref().and_then(|live| live.resource_version());
        let mut field = "metadata".to_owned();
        if let Some(live) = &known {
            ownership::check(&**live, &wanted)?;
            let found = differences(&as_json(live)?, &wanted_json);
            let as_it_is = |changed| Ensured { object: (**live).clone(), written: false, changed };
            let Some((first, _)) = found.first() else { return Ok(as_it_is(None)) };
            if self.applied.is_accepted(&key, content, &found) {
                return Ok(as_it_is(Some(changed_by_others(&key, first))));
            }
            field.clone_from(first);
        }
        let is_unseen = self.applied.is_unseen(&key, shown.as_deref());
        if !is_unseen && !self.applied.write_backoff.wait(&key, content).is_zero() {
            return Err(ApplyError::Reverted { object: key, field });
        }
        let replaces = known.as_ref().and_then(|live| live.uid());
        let applied = match self.send(api, &wanted, replaces.clone()).await {
            // The object exists and is not in the cache: it is foreign, its labels were edited, or it was
            // created a moment ago.
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
        let mut object = applied.map_err(|cause| refused::<K>(&name, "applied", &cause))?;
        if !is_unseen {
            self.applied.applied(&key, content, shown);
        }
        info!(kind = kind::<K>(), name, "applied");
        let found = differences(&as_json(&object)?, &wanted_json);
        let Some((field, _)) = found.first() else {
            return Ok(Ensured { object, written: true, changed: None });
        };
        if EXACT.contains(&&*kind::<K>()) {
            object = self.put_back(api, &object, &wanted_json).await?;
            return Ok(Ensured { object, written: true, changed: None });
        }
        let changed = changed_by_others(&key, field);
        if self.applied.accept(&key, content, &found) {
            warn!("{changed}");
            for rule in wanted.owner_references() {
                self.events.accepted(rule.name.clone(), Some(rule.uid.as_str().into()), &changed);
            }
        }
        Ok(Ensured { object, written: true, changed: Some(changed) })
    }

    /// Deletes an object, unless another object has its name now.
    async fn delete_one<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::background()
        };
        match self.leadership.write(api.delete(name, &params)).await {
            Ok(_) => info!(kind = kind::<K>(), name, "deleted"),
            Err(NotWritten::Failed(kube::Error::Api(status)))
                if matches!(status.code, 404 | 409) => {}
            Err(cause) => return Err(refused::<K>(name, "deleted", &cause)),
        }
        Ok(())
    }

    /// Replaces everything except the metadata. An apply would keep the items that others added to lists that
    /// are merged by key.
    async fn put_back<K>(&self, api: &Api<K>, live: &K, wanted: &Value) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let name = live.name_any();
        let encode = |cause| ApplyError::Encode { kind: kind::<K>(), name: name.clone(), cause };
        let patch =
            replacement(wanted, &live.resource_version().unwrap_or_default()).map_err(encode)?;
        let params =
            PatchParams { field_manager: Some(MANAGED_BY.to_owned()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(patch);
        let object = self.leadership.write(api.patch(&name, &params, &patch)).await;
        let object = object.map_err(|cause| refused::<K>(&name, "restored", &cause))?;
        info!(kind = kind::<K>(), name, "removed fields of others");
        Ok(object)
    }

    /// Applies an object. `replaces` is the uid of the live object; without it, the object must not exist.
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

    /// Applies a policy and its binding. Returns whether something was written.
    pub(crate) async fn put_in_place(
        &self,
        policy: &BoundPolicy,
        stores: &OwnedStores,
    ) -> Result<bool, ApplyError> {
        let BoundPolicy { policy, binding } = policy;
        let policy = self.ensure(&self.cluster(), policy, &stores.policies).await?;
        let binding = self.ensure(&self.cluster(), binding, &stores.policy_bindings).await?;
        Ok(policy.written || binding.written)
    }

    /// Deletes generated objects. Returns how many there were.
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
            self.delete_one(api, &object.name_any(), object.uid()).await?;
        }
        Ok(going.len())
    }

    /// Returns the API of a kind in the reporters' namespace.
    pub(crate) fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns the API of a cluster-scoped kind.
    pub(crate) fn cluster<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>,
    {
        Api::all(self.client.clone())
    }
}

fn changed_by_others(object: &str, field: &str) -> String {
    format!(
        "{field} of {object} differs from the generated value: an admission policy or another field manager \
         set it, and the operator accepts it"
    )
}

/// Returns kind, namespace and name of an object.
fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let (kind, name) = (kind::<K>(), object.name_any());
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Returns a patch that replaces everything except the metadata, if the object has this version.
fn replacement(wanted: &Value, version: &str) -> serde_json::Result<json_patch::Patch> {
    let members = wanted.as_object().into_iter().flatten();
    let members = members.filter(|(member, _)| !IDENTITY.contains(&member.as_str()));
    let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    let replaced = members.map(|(member, value)| {
        // `add` replaces an existing member (RFC 6902, section 4.1).
        json!({"op": "add", "path": format!("/{member}"), "value": value})
    });
    serde_json::from_value([test].into_iter().chain(replaced).collect())
}

fn refused<K: Resource<DynamicType = ()>>(
    name: &str,
    verb: &'static str,
    cause: &NotWritten<kube::Error>,
) -> ApplyError {
    let cause = api_error::of_write(cause).message;
    ApplyError::Refused { kind: kind::<K>(), name: name.to_owned(), verb, cause }
}

fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}
