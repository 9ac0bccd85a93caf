//! Tracks whether the caches have synced: every watch has stored its first list.

use std::convert::Infallible;

use tokio::sync::mpsc;

/// A handle that a watch holds until its first list is in the store.
///
/// `Store::wait_until_ready` wakes only the last of several tasks that wait for the same store, so it cannot
/// serve both a controller and this.
#[derive(Clone, Debug)]
pub struct CacheSync(
    #[expect(dead_code, reason = "it is held, not used")] mpsc::Sender<Infallible>,
);

/// Completes when every [`CacheSync`] is dropped.
#[derive(Debug)]
pub struct AllSynced(mpsc::Receiver<Infallible>);

impl CacheSync {
    /// Returns a handle, which each watch clones, and the receiver that waits for all of them.
    pub fn new() -> (Self, AllSynced) {
        let (held, waiting) = mpsc::channel(1);
        (Self(held), AllSynced(waiting))
    }
}

impl AllSynced {
    /// Waits until every watch has stored its first list.
    pub async fn wait(mut self) {
        // Nothing is ever sent: the channel closes when the last handle is dropped.
        let _: Option<Infallible> = self.0.recv().await;
    }
}
