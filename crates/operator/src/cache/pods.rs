//! The watch of reporters' pods, which shows where they are ready, and otherwise why not.

use std::future::ready;

use futures::StreamExt;
use kube::Client;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL};
use node_readiness_engine::reporter::ReporterPod;
use tokio::sync::watch;

use super::reflect::{WATCH_TIMEOUT_SECONDS, persistent};
use super::sync::CacheSync;

/// Every pod of a reporter, with the fields that the operator uses.
pub(crate) type PodStore = Store<ReporterPod>;

/// The number of pods on one page of a list.
const PAGE: u32 = 100;

/// Watches reporters' pods in their namespace. The receiver is notified when one was changed or deleted. The watch runs
/// while the future is polled.
pub(super) fn pods(
    client: Client,
    namespace: &str,
    sync: CacheSync,
) -> (PodStore, watch::Receiver<()>, impl Future<Output = ()> + Send + 'static) {
    let (store, writer) = reflector::store();
    let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
    let config =
        watcher::Config::default().labels(&ours).timeout(WATCH_TIMEOUT_SECONDS).page_size(PAGE);
    let watch = watcher(Api::<ReporterPod>::namespaced(client, namespace), config);
    let events = persistent("Pods of reporters", watch, writer, sync);
    let (notify, changes) = watch::channel(());
    let watching = events.for_each(move |event| {
        match event {
            Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => {
                notify.send_replace(());
            }
            Ok(Event::Init | Event::InitApply(_)) | Err(_) => {}
        }
        ready(())
    });
    (store, changes, watching)
}
