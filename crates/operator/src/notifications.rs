//! Which rules there is news of, told at most once a second.
//!
//! A mass change is news of the same few rules ten thousand times. A rule's status is written at most
//! once a second, so nothing is lost by collecting, and what is not done ten thousand times delays no
//! patch.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Shortest time between two tellings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rules of which there is news that was not told yet, by uid.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    rules: Mutex<HashSet<Arc<str>>>,
    more: Notify,
}

impl Notifications {
    /// Notes that there is news of these rules.
    pub(crate) fn notify(&self, rules: impl IntoIterator<Item = Arc<str>>) {
        let mut pending = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend(rules);
        if !pending.is_empty() {
            self.more.notify_one();
        }
    }

    /// Tells each rule once for all that came in meanwhile: the first at once, and what follows after
    /// the interval.
    pub(crate) fn batches(self: Arc<Self>) -> impl Stream<Item = Arc<str>> + Send + 'static {
        let rounds = stream::unfold((self, Instant::now()), |(notifications, due)| async move {
            notifications.more.notified().await;
            sleep_until(due).await;
            let rules = std::mem::take(
                &mut *notifications.rules.lock().unwrap_or_else(PoisonError::into_inner),
            );
            Some((stream::iter(rules), (notifications, Instant::now() + INTERVAL)))
        });
        rounds.flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_notification_is_delivered_at_once_and_then_once_an_interval() {
        let notifications = Arc::new(Notifications::default());
        let mut batches = Box::pin(Arc::clone(&notifications).batches());
        let rule: Arc<str> = "rule".into();
        let begun = Instant::now();
        notifications.notify([Arc::clone(&rule)]);
        assert_eq!(batches.next().await.as_deref(), Some("rule"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..1000 {
            notifications.notify([Arc::clone(&rule)]);
        }
        assert_eq!(batches.next().await.as_deref(), Some("rule"));
        assert_eq!(begun.elapsed(), INTERVAL);
        tokio::time::advance(2 * INTERVAL).await;
        assert!(batches.next().now_or_never().is_none(), "there is no more");
    }
}
