//! Finds the reason why Kubernetes creates no pods for a DaemonSet, such as a quota, a limit range or Pod
//! Security. Only the events of the DaemonSet controller show it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::time::timeout;
use tracing::debug;

/// How long the result is cached.
pub(crate) const REFRESH: Duration = Duration::from_secs(10);

/// The timeout of the request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The maximum number of events to read. There is one for each cause, which counts its repetitions.
const EVENTS: u32 = 50;

/// The length of the random suffix of a pod's name.
const SUFFIX: usize = 5;

/// Reads the events of `DaemonSet`s that lack pods.
pub(crate) struct CreationFailures {
    events: Api<Event>,
    /// By uid of the DaemonSet.
    known: Mutex<HashMap<String, (Instant, Option<String>)>>,
}

impl CreationFailures {
    /// Creates a reader of events in the reporters' namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { events: Api::namespaced(client, namespace), known: Mutex::default() }
    }

    /// Returns the message of the latest event about pods of this DaemonSet that could not be created. Returns
    /// `None` if there are no events or they cannot be read.
    pub(crate) async fn of(&self, daemon_set: &DaemonSet) -> Option<String> {
        let uid = daemon_set.uid()?;
        if let Some((at, known)) = self.lock().get(&uid)
            && at.elapsed() < REFRESH
        {
            return known.clone();
        }
        let found = self.read(&uid, &daemon_set.name_any()).await;
        let mut known = self.lock();
        known.retain(|_, (at, _)| at.elapsed() < REFRESH);
        known.insert(uid, (Instant::now(), found.clone()));
        found
    }

    async fn read(&self, uid: &str, name: &str) -> Option<String> {
        let fields = format!("involvedObject.uid={uid},reason=FailedCreate");
        let params = ListParams::default().fields(&fields).limit(EVENTS);
        let events = match timeout(PATIENCE, self.events.list(&params)).await {
            Ok(Ok(events)) => events.items,
            Ok(Err(error)) => {
                debug!(daemon_set = name, "cannot read its events: {error}");
                return None;
            }
            Err(_) => return None,
        };
        let latest = events.into_iter().max_by_key(|event| {
            let time = event.last_timestamp.as_ref().map(|time| time.0);
            time.or(event.event_time.as_ref().map(|time| time.0))
        });
        Some(without_generated_name(&latest?.message?, name))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<String>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a message without the pod's random suffix, which would make each message different.
fn without_generated_name(message: &str, daemon_set: &str) -> String {
    let prefix = format!("\"{daemon_set}-");
    let Some((before, after)) = message.split_once(&prefix) else { return message.to_owned() };
    match after.split_once('"') {
        Some((suffix, rest)) if suffix.len() <= SUFFIX => format!("{before}{prefix}*\"{rest}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_for_each_pod() {
        let message =
            |name: &str| format!("Error creating: pods \"{name}\" is forbidden: no quota");
        let expected = message("reporter-cni-*");
        for name in ["reporter-cni-x7k2p", "reporter-cni-"] {
            assert_eq!(without_generated_name(&message(name), "reporter-cni"), expected);
        }
        for other in ["reporter-cni-longer", "web-x7k2p"] {
            assert_eq!(without_generated_name(&message(other), "reporter-cni"), message(other));
        }
    }
}
