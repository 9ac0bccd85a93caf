//! What is watched: each kind once, kept in a store that everything else reads.
//!
//! After the first list nothing is ever read from the API server but these watches.

mod nodes;
mod owned;
mod rules;

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use tracing::warn;

pub use nodes::{NodeStore, nodes};
pub use owned::{Owned, OwnedStores};
pub use rules::{RuleStore, StoredRule, rules};

/// How long a watch that failed waits at most before it is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Makes a watch that never gives up: failures are logged and retried with growing, jittered
/// waits.
fn persistent<K>(
    what: &'static str,
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource + Send + 'static,
{
    watch.default_backoff().inspect(move |event| {
        if let Err(error) = event {
            let error = with_causes(error);
            warn!("cannot watch {what}, trying again within {LONGEST_WAIT:?}: {error}");
        }
    })
}

/// An error with its causes: that of a failed connection says nothing by itself.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The name of an object that came from the API server.
fn name_of<K: Resource>(object: &K) -> String {
    object.name_any()
}
