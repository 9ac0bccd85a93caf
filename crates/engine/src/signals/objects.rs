//! The slim objects in which signals are observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;

use crate::{Interned, digest};

/// An object of a watched kind.
pub trait SignalObject {
    /// Name of the object, unique in its watch.
    fn name(&self) -> &str;
    /// The node that it is about, if it is about one.
    fn node(&self) -> Option<&str>;
    /// What it states.
    fn fact(&self) -> Fact;
}

/// What an object states about its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A pod runs there.
    Pod {
        /// Whether it is Ready and not terminating.
        ready: bool,
        /// Identifies its running containers.
        containers: u64,
    },
    /// These CSI drivers are registered.
    CsiDrivers(Box<[Interned]>),
    /// A part of a DRA driver's pool of devices is published.
    Slice {
        /// The driver.
        driver: Interned,
        /// Name of the pool.
        pool: Interned,
        /// The pool's generation.
        generation: i64,
        /// The number of slices of this generation.
        total: i64,
    },
}

/// A slim pod that a rule requires.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
#[serde(from = "ReadPod")]
pub struct SignalPod {
    /// Name, namespace and version.
    pub metadata: ObjectMeta,
    node: Option<Box<str>>,
    ready: bool,
    containers: u64,
}

#[derive(Deserialize)]
struct ReadPod {
    metadata: ReadMetadata,
    #[serde(default)]
    spec: ReadPodSpec,
    #[serde(default)]
    status: ReadPodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadMetadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadPodSpec {
    node_name: Option<Box<str>>,
}

/// Lists may be null: the API server writes an empty list of drivers in this way.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReadPodStatus {
    conditions: Option<Vec<ReadCondition>>,
    container_statuses: Option<Vec<ReadContainer>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

#[derive(Deserialize)]
struct ReadContainer {
    #[serde(default, rename = "containerID")]
    id: Option<String>,
}

impl ReadMetadata {
    fn into_meta(self) -> ObjectMeta {
        let Self { name, namespace, resource_version, deletion_timestamp: _ } = self;
        ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() }
    }
}

impl From<ReadPod> for SignalPod {
    fn from(read: ReadPod) -> Self {
        let ReadPod { metadata, spec, status } = read;
        let is_ready =
            |condition: &ReadCondition| condition.type_ == "Ready" && condition.status == "True";
        let is_terminating = metadata.deletion_timestamp.is_some();
        Self {
            metadata: metadata.into_meta(),
            node: spec.node_name,
            ready: !is_terminating && status.conditions.iter().flatten().any(is_ready),
            containers: identity(status.container_statuses.as_deref().unwrap_or_default()),
        }
    }
}

/// Returns a number that identifies running containers.
fn identity(containers: &[ReadContainer]) -> u64 {
    let ids = containers.iter().filter_map(|container| container.id.as_deref());
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    digest::short(&ids.join("\n"))
}

impl SignalObject for SignalPod {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    fn fact(&self) -> Fact {
        Fact::Pod { ready: self.ready, containers: self.containers }
    }
}

/// A slim `CSINode`, which lists the CSI drivers of the node with its name.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::storage::v1::CSINode")]
#[serde(from = "ReadCsiNode")]
pub struct CsiNode {
    /// Name and version.
    pub metadata: ObjectMeta,
    drivers: Box<[Interned]>,
}

#[derive(Deserialize)]
struct ReadCsiNode {
    metadata: ReadMetadata,
    #[serde(default)]
    spec: ReadCsiNodeSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadCsiNodeSpec {
    drivers: Option<Vec<ReadDriver>>,
}

#[derive(Deserialize)]
struct ReadDriver {
    name: Interned,
}

impl From<ReadCsiNode> for CsiNode {
    fn from(read: ReadCsiNode) -> Self {
        let drivers = read.spec.drivers.into_iter().flatten();
        let drivers = drivers.map(|driver| driver.name).collect();
        Self { metadata: read.metadata.into_meta(), drivers }
    }
}

impl SignalObject for CsiNode {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn node(&self) -> Option<&str> {
        self.metadata.name.as_deref()
    }

    fn fact(&self) -> Fact {
        Fact::CsiDrivers(self.drivers.clone())
    }
}

/// A slim `ResourceSlice`, without its devices.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::resource::v1::ResourceSlice")]
#[serde(from = "ReadSlice")]
pub struct ResourceSlice {
    /// Name and version.
    pub metadata: ObjectMeta,
    spec: ReadSliceSpec,
}

#[derive(Deserialize)]
struct ReadSlice {
    metadata: ReadMetadata,
    spec: ReadSliceSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadSliceSpec {
    driver: Interned,
    #[serde(default)]
    node_name: Option<Box<str>>,
    pool: ReadPool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadPool {
    name: Interned,
    generation: i64,
    resource_slice_count: i64,
}

impl From<ReadSlice> for ResourceSlice {
    fn from(read: ReadSlice) -> Self {
        Self { metadata: read.metadata.into_meta(), spec: read.spec }
    }
}

impl SignalObject for ResourceSlice {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref()
    }

    fn fact(&self) -> Fact {
        let ReadSliceSpec { driver, node_name: _, pool } = &self.spec;
        Fact::Slice {
            driver: driver.clone(),
            pool: pool.name.clone(),
            generation: pool.generation,
            total: pool.resource_slice_count,
        }
    }
}
