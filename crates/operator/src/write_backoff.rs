//! Backoff for objects whose writes another client reverts repeatedly.
//!
//! After an admission policy, another controller or a person reverts a write, the operator plans the same write
//! again. Without a wait the two would overwrite each other as fast as the API server answers. So the waits
//! between writes of the same content to the same object grow exponentially. Other content is written at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The wait before the second repetition; the first is immediate. So an object is written at most five times in
/// the first minute.
const FIRST: Duration = Duration::from_secs(5);

/// The longest wait between two repetitions.
const LONGEST: Duration = Duration::from_mins(10);

/// The time after which the same content counts as new.
const FORGOTTEN: Duration = Duration::from_mins(20);

/// The smallest number of objects at which expired ones are removed.
const FEW: usize = 1024;

/// The last write to each object.
#[derive(Debug, Default)]
pub(crate) struct WriteBackoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    objects: HashMap<String, LastWrite>,
    /// The number of objects at which expired ones are removed next.
    prune_at: usize,
}

#[derive(Debug)]
struct LastWrite {
    /// A hash of the written content.
    content: u64,
    /// The number of repetitions.
    repeats: u32,
    at: Instant,
}

impl WriteBackoff {
    /// Returns the wait before this content may be written.
    pub(crate) fn wait(&self, object: &str, content: u64) -> Duration {
        let state = self.lock();
        let Some(last) = state.same(object, content) else { return Duration::ZERO };
        delay(last.repeats).saturating_sub(last.at.elapsed())
    }

    /// Returns the number of consecutive repetitions of this content so far; `None` for new content.
    pub(crate) fn repeats(&self, object: &str, content: u64) -> Option<u32> {
        self.lock().same(object, content).map(|last| last.repeats)
    }

    /// Records a write of this content.
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

    /// Removes expired entries once for each doubling, so the cost of a write does not depend on the number of
    /// objects.
    fn prune(&mut self) {
        if self.objects.len() >= self.prune_at.max(FEW) {
            self.objects.retain(|_, last| last.at.elapsed() < FORGOTTEN);
            self.prune_at = 2 * self.objects.len();
        }
    }
}

/// Returns the wait after this number of repetitions.
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
    fn the_first_minute_has_at_most_five_writes_and_waits_grow_to_ten_minutes() {
        let waits = (0..4).map(delay);
        let times = waits.scan(Duration::ZERO, |at, wait| {
            *at += wait;
            Some(at.as_secs())
        });
        // In addition to the first write, at 0.
        assert_eq!(times.collect::<Vec<_>>(), [0, 5, 15, 35]);
        assert!(delay(4) + Duration::from_secs(35) > Duration::from_mins(1));
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn the_first_repetition_and_other_content_are_immediate() {
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
