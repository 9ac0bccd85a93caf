//! How a watch keeps a store.

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

/// How many seconds a watch lasts before the next takes over, so that a connection on which nothing
/// comes any more is noticed: a rule that nobody hears of is not suspended, and one that a standby does
/// not know is cleaned up after.
pub(crate) const WATCH_TIMEOUT_SECONDS: u32 = 20;

/// The same for the watch of nodes. Silence on it must not pass for a condition's: one is stale after 30
/// seconds at the soonest, which leaves 20 for heartbeats that are not at the very end of theirs.
pub(crate) const NODE_WATCH_TIMEOUT_SECONDS: u32 = 8;

/// How long a watch that failed waits at most before it is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Keeps a store by a watch that never gives up: failures are logged and retried with growing,
/// jittered waits.
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
            warn!("cannot watch {what}, trying again within {LONGEST_WAIT:?}: {error}");
        }
    })
}

/// The objects that changed, once the store has them. A watch that lists anew yields every object
/// when the list is complete: until then the store has the old ones. Failures stop here, where they
/// have been logged: a controller would pause everything that drives it.
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
