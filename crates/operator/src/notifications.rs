//! Change notifications, at most one a second for each rule.
//!
//! A mass change touches the same few rules thousands of times, so notifications are batched. A rule's status
//! is written at most once a second, so batching loses nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The shortest time between two batches.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rules with a pending notification, by uid.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    rules: Mutex<HashSet<Arc<str>>>,
    more: Notify,
}

impl Notifications {
    /// Adds notifications of these rules.
    pub(crate) fn notify(&self, rules: impl IntoIterator<Item = Arc<str>>) {
        let mut pending = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend(rules);
        if !pending.is_empty() {
            self.more.notify_one();
        }
    }

    /// Yields each notified rule once for each interval, and the first one immediately.
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
    async fn a_notification_is_delivered_immediately_and_then_once_an_interval() {
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
