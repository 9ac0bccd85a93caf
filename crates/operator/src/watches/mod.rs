//! What is watched: each kind once, kept in a store that everything else reads.
//!
//! After the first list nothing is ever read from the API server but these watches.

mod nodes;
mod owned;
mod pods;
mod rules;

use std::convert::Infallible;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use tracing::warn;

use crate::refusal;

pub use nodes::{NodeStore, nodes};
pub use owned::{Owned, OwnedStores};
pub use pods::{PodStore, pods};
pub use rules::{RuleStore, StoredRule, rules};

/// How many seconds a watch lasts before the next takes over, so that a connection on which nothing
/// comes any more is noticed: a rule that nobody hears of is not suspended, and one that a standby does
/// not know is cleaned up after.
pub const LASTS: u32 = 20;

/// The same for the watch of nodes. Silence on it must not pass for a condition's: one is stale after 30
/// seconds at the soonest, which leaves 20 for heartbeats that are not at the very end of theirs.
pub const NODES_LAST: u32 = 8;

/// How long a watch that failed waits at most before it is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Held by a watch until its first list is in the store.
///
/// `Store::wait_until_ready` wakes only the last of several tasks that wait for the same store, so
/// it cannot serve both a controller and somebody who wants to know that everything was read.
#[derive(Clone, Debug)]
pub struct Reading(#[expect(dead_code, reason = "it is held, not used")] mpsc::Sender<Infallible>);

/// Ends its wait when every [`Reading`] is done.
#[derive(Debug)]
pub struct AllRead(mpsc::Receiver<Infallible>);

impl Reading {
    /// Something to hold while reading, and to wait for.
    pub fn new() -> (Self, AllRead) {
        let (held, waiting) = mpsc::channel(1);
        (Self(held), AllRead(waiting))
    }
}

impl AllRead {
    /// Waits until every watch has read its first list.
    pub async fn wait(mut self) {
        // Nothing is ever sent: the channel closes when the last holder lets go.
        let _: Option<Infallible> = self.0.recv().await;
    }
}

/// Keeps a store by a watch that never gives up: failures are logged and retried with growing,
/// jittered waits.
fn persistent<K>(
    what: &'static str,
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    writer: Writer<K>,
    reading: Reading,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let mut reading = Some(reading);
    watch.default_backoff().reflect(writer).inspect(move |event| match event {
        Ok(Event::InitDone) => drop(reading.take()),
        Ok(_) => {}
        Err(error) => {
            let error = refusal::with_causes(error);
            warn!("cannot watch {what}, trying again within {LONGEST_WAIT:?}: {error}");
        }
    })
}

/// The objects that changed, once the store has them. A watch that lists anew yields every object
/// when the list is complete: until then the store has the old ones. Failures stop here, where they
/// have been logged: a controller would pause everything that drives it.
fn settled<K>(
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
