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
pub(crate) struct News {
    rules: Mutex<HashSet<Arc<str>>>,
    more: Notify,
}

impl News {
    /// Notes that there is news of these rules.
    pub(crate) fn tell(&self, rules: impl IntoIterator<Item = Arc<str>>) {
        let mut untold = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        untold.extend(rules);
        if !untold.is_empty() {
            self.more.notify_one();
        }
    }

    /// Tells each rule once for all that came in meanwhile: the first at once, and what follows after
    /// the interval.
    pub(crate) fn told(self: Arc<Self>) -> impl Stream<Item = Arc<str>> + Send + 'static {
        let rounds = stream::unfold((self, Instant::now()), |(news, due)| async move {
            news.more.notified().await;
            sleep_until(due).await;
            let rules =
                std::mem::take(&mut *news.rules.lock().unwrap_or_else(PoisonError::into_inner));
            Some((stream::iter(rules), (news, Instant::now() + INTERVAL)))
        });
        rounds.flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn news_are_told_at_once_and_then_once_an_interval() {
        let news = Arc::new(News::default());
        let mut told = Box::pin(Arc::clone(&news).told());
        let rule: Arc<str> = "rule".into();
        let begun = Instant::now();
        news.tell([Arc::clone(&rule)]);
        assert_eq!(told.next().await.as_deref(), Some("rule"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..1000 {
            news.tell([Arc::clone(&rule)]);
        }
        assert_eq!(told.next().await.as_deref(), Some("rule"));
        assert_eq!(begun.elapsed(), INTERVAL);
        tokio::time::advance(2 * INTERVAL).await;
        assert!(told.next().now_or_never().is_none(), "there is no more");
    }
}
