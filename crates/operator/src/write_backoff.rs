//! Backoff for objects that somebody else changes back again and again.
//!
//! A write that succeeds and is undone by an admission policy, another controller or a person looks like
//! work that is still to be done. Without a wait the two would overwrite each other as fast as the API
//! server answers. So the same content is written to the same object with growing waits in between. Other
//! content is written at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The wait before the second repetition; the first is immediate. With it an object is written at most
/// five times in the first minute.
const FIRST: Duration = Duration::from_secs(5);

/// The longest wait between two repetitions.
const LONGEST: Duration = Duration::from_mins(10);

/// After how long the same content counts as new.
const FORGOTTEN: Duration = Duration::from_mins(20);

/// How many objects are remembered before old ones are looked for.
const FEW: usize = 1024;

/// What was last written to each object.
#[derive(Debug, Default)]
pub(crate) struct WriteBackoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    objects: HashMap<String, LastWrite>,
    /// From how many objects on those that count as forgotten are removed.
    prune_at: usize,
}

#[derive(Debug)]
struct LastWrite {
    /// Hash of what was written.
    content: u64,
    /// How often it was written again.
    repeats: u32,
    at: Instant,
}

impl WriteBackoff {
    /// How long to wait before this content may be written; zero for one that may be now.
    pub(crate) fn wait(&self, object: &str, content: u64) -> Duration {
        let state = self.lock();
        let Some(last) = state.same(object, content) else { return Duration::ZERO };
        delay(last.repeats).saturating_sub(last.at.elapsed())
    }

    /// How often in a row this content has been written again so far; `None` for content that is new.
    pub(crate) fn repeats(&self, object: &str, content: u64) -> Option<u32> {
        self.lock().same(object, content).map(|last| last.repeats)
    }

    /// Records that this content was written.
    pub(crate) fn written(&self, object: &str, content: u64) {
        let mut state = self.lock();
        let repeats = state.same(object, content).map_or(0, |last| last.repeats.saturating_add(1));
        state.prune();
        let last = LastWrite { content, repeats, at: Instant::now() };
        state.objects.insert(object.to_owned(), last);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn same(&self, object: &str, content: u64) -> Option<&LastWrite> {
        let last = self.objects.get(object)?;
        (last.content == content && last.at.elapsed() < FORGOTTEN).then_some(last)
    }

    /// Removes what counts as forgotten, once for each doubling, so that a write costs the same however
    /// many objects there are.
    fn prune(&mut self) {
        if self.objects.len() >= self.prune_at.max(FEW) {
            self.objects.retain(|_, last| last.at.elapsed() < FORGOTTEN);
            self.prune_at = 2 * self.objects.len();
        }
    }
}

/// The wait after so many repetitions.
fn delay(repeats: u32) -> Duration {
    match repeats {
        0 => Duration::ZERO,
        more => FIRST.saturating_mul(2_u32.saturating_pow(more - 1)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_five_writes_fall_into_the_first_minute_and_waits_end_at_ten() {
        let waits = (0..4).map(delay);
        let times = waits.scan(Duration::ZERO, |at, wait| {
            *at += wait;
            Some(at.as_secs())
        });
        // Beside the first write, at 0.
        assert_eq!(times.collect::<Vec<_>>(), [0, 5, 15, 35]);
        assert!(delay(4) + Duration::from_secs(35) > Duration::from_mins(1));
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn the_first_repetition_is_immediate_and_other_content_always_is() {
        let rewrites = WriteBackoff::default();
        assert_eq!((rewrites.wait("a", 1), rewrites.repeats("a", 1)), (Duration::ZERO, None));
        rewrites.written("a", 1);
        assert_eq!((rewrites.wait("a", 1), rewrites.repeats("a", 1)), (Duration::ZERO, Some(0)));
        rewrites.written("a", 1);
        assert!(rewrites.wait("a", 1) > Duration::from_secs(4));
        assert_eq!(rewrites.wait("a", 2), Duration::ZERO);
        assert_eq!(rewrites.wait("b", 1), Duration::ZERO);
        rewrites.written("a", 2);
        assert_eq!(rewrites.repeats("a", 1), None);
    }
}
