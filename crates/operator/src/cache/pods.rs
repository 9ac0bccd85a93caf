//! The watch of reporters' pods, which shows the reason if they do not run.

use std::future::ready;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL};
use node_readiness_engine::reporter::ReporterPod;

use super::reflect::{WATCH_TIMEOUT_SECONDS, persistent};
use super::sync::CacheSync;

/// Every pod of a reporter, with the fields that the operator uses.
pub(crate) type PodStore = Store<ReporterPod>;

/// The number of pods on one page of a list.
const PAGE: u32 = 100;

/// Watches reporters' pods in their namespace. The stream yields the uid of a rule when one of its pods changed
/// or was deleted.
pub(super) fn pods(
    client: Client,
    namespace: &str,
    sync: CacheSync,
) -> (PodStore, impl Stream<Item = Arc<str>> + Send + 'static) {
    let (store, writer) = reflector::store();
    let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
    let config =
        watcher::Config::default().labels(&ours).timeout(WATCH_TIMEOUT_SECONDS).page_size(PAGE);
    let watch = watcher(Api::<ReporterPod>::namespaced(client, namespace), config);
    let events = persistent("Pods of reporters", watch, writer, sync);
    let touched = events.filter_map(|event| {
        ready(match event {
            Ok(Event::Apply(pod) | Event::Delete(pod)) => pod.rule_uid.map(Arc::from),
            // The next write of the status includes the changes of a list.
            Ok(Event::Init | Event::InitApply(_) | Event::InitDone) | Err(_) => None,
        })
    });
    (store, touched)
}
