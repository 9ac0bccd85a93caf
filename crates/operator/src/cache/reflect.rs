//! Keeps a store in sync with a watch.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use tracing::warn;

use super::sync::CacheSync;
use crate::api_error;

/// The timeout of a watch, in seconds, after which it is renewed. The operator detects a dead connection within
/// this time. Otherwise it could miss that a rule was suspended, or clean up after a rule that it does not know.
pub(crate) const WATCH_TIMEOUT_SECONDS: u32 = 20;

/// The timeout of the node watch, in seconds. A dead connection must not look like a stale condition. A condition
/// is stale after 30 seconds at the earliest, so 20 seconds remain for late heartbeats.
pub(crate) const NODE_WATCH_TIMEOUT_SECONDS: u32 = 8;

/// The longest wait before a failed watch starts again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Keeps a store in sync with a watch. Logs failures, and retries for ever with exponential backoff and jitter.
pub(super) fn persistent<K>(
    what: &'static str,
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    writer: Writer<K>,
    sync: CacheSync,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let mut sync = Some(sync);
    watch.default_backoff().reflect(writer).inspect(move |event| match event {
        Ok(Event::InitDone) => drop(sync.take()),
        Ok(_) => {}
        Err(error) => {
            let error = api_error::with_causes(error);
            warn!("cannot watch {what}, retrying within {LONGEST_WAIT:?}: {error}");
        }
    })
}

/// Returns changed objects after the store has them. A complete list yields every object. Failures are already
/// logged and left out, because a controller would pause all of its triggers.
pub(super) fn changed_objects<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    store: Store<K>,
) -> impl Stream<Item = watcher::Result<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    events.flat_map(move |event| {
        let changed: Vec<K> = match event {
            Ok(Event::Apply(object)) => vec![object],
            Ok(Event::InitDone) => store.state().iter().map(|object| (**object).clone()).collect(),
            Ok(Event::Delete(_) | Event::Init | Event::InitApply(_)) | Err(_) => Vec::new(),
        };
        stream::iter(changed.into_iter().map(Ok))
    })
}
