//! Follows the configuration of the reporter's set and the labels of its Node, and publishes what follows from them.

use std::{collections::BTreeMap, convert::Infallible, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{Client, core::PartialObjectMeta};
use node_readiness_api::REPORTER_CONFIG_KEY;
use tokio::{sync::watch, time};
use tracing::{info, warn};

use crate::{
    assignment::Assignment,
    changed,
    follow::{Target, follow, poll},
    identity::Identity,
    metrics::Metrics,
    settings::config::{Config, Host},
};

/// Only the metadata, because a Node may have 50 KB.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// How long configuration and labels may take before the log names what is missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The source of an assignment that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node's root directory in the container.
    pub host_root: PathBuf,
    /// The directories of the node in the container.
    pub mounted: Vec<String>,
    /// The node's address, if the pod has it.
    pub address: Option<IpAddr>,
}

/// Follows the source for ever, and publishes each assignment.
pub async fn publish(
    source: Source,
    client: Client,
    node: &str,
    identity: Identity,
    metrics: Metrics,
    assignments: watch::Sender<Assignment>,
) -> Infallible {
    let Source { namespace, name, host_root, mounted, address } = source;
    let config_map = Target {
        collection: format!("/api/v1/namespaces/{namespace}/configmaps"),
        what: format!("ConfigMap {namespace}/{name}"),
        name,
        accept: "application/json",
        identity: Identity::ServiceAccount,
    };
    let own_node = Target {
        collection: "/api/v1/nodes".to_owned(),
        what: format!("Node {node}"),
        name: node.to_owned(),
        accept: METADATA_ONLY,
        identity,
    };
    let names = [config_map.what.clone(), own_node.what.clone()];
    let (set_config, mut config) = watch::channel(None);
    let (set_labels, mut labels) = watch::channel(None);
    let what = config_map.what.clone();
    let read_config = move |map: ConfigMap| {
        let host = Host { root: &host_root, address };
        let read = read(&map, host);
        metrics.config_read(read.is_ok());
        match read {
            Ok(config) => drop(set_config.send_replace(Some(config))),
            Err(problem) => {
                warn!("{what} cannot be used, so the last configuration stays in force: {problem}");
            }
        }
    };
    let read_labels = move |node: PartialObjectMeta<Node>| {
        let next = Some(node.metadata.labels.unwrap_or_default());
        set_labels.send_if_modified(|current: &mut Option<BTreeMap<_, _>>| {
            let changed = *current != next;
            *current = next;
            changed
        });
    };
    let assign = async {
        let mut waits = true;
        loop {
            let missing = [config.borrow().is_none(), labels.borrow().is_none()];
            if let (Some(config), Some(labels)) =
                (&*config.borrow_and_update(), &*labels.borrow_and_update())
            {
                publish_assignment(&assignments, Assignment::of(config, labels, &mounted));
                waits = false;
            }
            tokio::select! {
                () = changed(&mut config) => {}
                () = changed(&mut labels) => {}
                () = time::sleep(PATIENCE), if waits => {
                    waits = false;
                    let missing = names.iter().zip(missing).filter(|(_, missing)| *missing);
                    let missing: Vec<_> = missing.map(|(name, _)| name.as_str()).collect();
                    warn!("no probe runs, because the reporter has not read {}", missing.join(" and "));
                }
            }
        }
    };
    let config_map = follow(client.clone(), config_map, read_config);
    let own_node = async {
        match own_node.identity {
            Identity::Node(_) => follow(client, own_node, read_labels).await,
            Identity::ServiceAccount => poll(client, own_node, read_labels).await,
        }
    };
    tokio::join!(config_map, own_node, assign).2
}

fn publish_assignment(assignments: &watch::Sender<Assignment>, next: Assignment) {
    assignments.send_if_modified(|current| {
        let changed = *current != next;
        if changed {
            let conditions: Vec<_> = next.probes.keys().map(String::as_str).collect();
            info!(heartbeat = ?next.heartbeat, "probing for {}", conditions.join(", "));
            *current = next;
        }
        changed
    });
}

fn read(map: &ConfigMap, host: Host<'_>) -> Result<Config, String> {
    let json = map.data.as_ref().and_then(|data| data.get(REPORTER_CONFIG_KEY));
    let json = json.ok_or_else(|| format!("it has no key {REPORTER_CONFIG_KEY}"))?;
    Config::parse(json, host).map_err(|error| error.to_string())
}
