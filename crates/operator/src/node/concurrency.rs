//! The adaptive concurrency limit (AIMD) of writes to nodes.
//!
//! More concurrent writes are faster up to the capacity of the API server. Beyond that they only queue there. So
//! the limit follows the answers, like TCP's congestion window (RFC 5681). It grows quickly up to the last limit
//! that was too high, and slowly beyond it. It is halved when the API server is overloaded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The smallest, largest and initial limit.
const LEAST: f64 = 2.0;
pub(super) const MOST: u16 = 96;
const FIRST: f64 = 16.0;

/// An answer that takes this long indicates an overloaded API server. A write takes milliseconds, and no
/// request waits longer than a minute.
const SLOW: Duration = Duration::from_secs(2);

/// The limit, which gives a permit to each write.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    free: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// The number of permits, in use and free.
    permits: usize,
}

/// A permit for one write.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limit: &'a ConcurrencyLimit,
    _slot: SemaphorePermit<'a>,
    began: Instant,
}

/// How the API server answered a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feedback {
    /// It applied the write, or refused it because of its content.
    Success,
    /// It refused or did not answer, because it is overloaded.
    Overload,
}

impl ConcurrencyLimit {
    pub(super) fn new() -> Self {
        let limit = Limit::new(Instant::now());
        let permits = limit.size();
        let state = Mutex::new(State { limit, permits });
        Self { free: Semaphore::new(permits), state }
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> Permit<'_> {
        let slot = self.free.acquire().await.expect("the semaphore is never closed");
        Permit { limit: self, _slot: slot, began: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Returns the permit and adjusts the limit to the API server's answer.
    pub(super) fn release(self, feedback: Feedback) {
        let now = Instant::now();
        let busy = self.limit.free.available_permits() == 0;
        let mut state = self.limit.lock();
        state.limit.record(feedback, self.began, now, busy);
        let wanted = state.limit.size();
        if wanted > state.permits {
            self.limit.free.add_permits(wanted - state.permits);
            state.permits = wanted;
        }
        // This permit is returned after this, so fewer permits may be free than have to be removed. The next
        // answers remove the rest.
        if wanted < state.permits {
            state.permits -= self.limit.free.forget_permits(state.permits - wanted);
        }
    }
}

/// The limit as a number. Callers pass the time.
#[derive(Debug)]
struct Limit {
    size: f64,
    /// The limit grows quickly up to this value.
    quick: f64,
    /// When it was last reduced. Answers to earlier writes are ignored, because they belong to the larger limit.
    shrunk: Instant,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self { size: FIRST, quick: f64::from(MOST), shrunk: now }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 to 96")]
    fn size(&self) -> usize {
        self.size as usize
    }

    /// Records the answer to a write that began at `began`. The limit grows only if all permits were in use
    /// (`busy`).
    fn record(&mut self, feedback: Feedback, began: Instant, now: Instant, busy: bool) {
        if began < self.shrunk {
            return;
        }
        if feedback == Feedback::Overload || now - began > SLOW {
            self.size = (self.size / 2.0).max(LEAST);
            self.quick = self.size;
            self.shrunk = now;
        } else if busy {
            let growth = if self.size < self.quick { 1.0 } else { 1.0 / self.size };
            self.size = (self.size + growth).min(f64::from(MOST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(10);

    /// Answers as many writes as the limit allows, each `took` after it was sent.
    fn round(limit: &mut Limit, now: &mut Instant, feedback: Feedback, took: Duration) {
        let began = *now;
        *now += took;
        for _ in 0..limit.size() {
            limit.record(feedback, began, *now, true);
        }
    }

    #[test]
    fn the_limit_grows_while_the_api_server_keeps_up_to_its_maximum() {
        let mut now = Instant::now();
        let mut limit = Limit::new(now);
        round(&mut limit, &mut now, Feedback::Success, QUICK);
        assert_eq!(limit.size(), 32);
        for _ in 0..10 {
            round(&mut limit, &mut now, Feedback::Success, QUICK);
        }
        assert_eq!(limit.size(), usize::from(MOST));
    }

    #[test]
    fn concurrent_overloads_halve_the_limit_once() {
        let mut now = Instant::now();
        let mut limit = Limit::new(now);
        round(&mut limit, &mut now, Feedback::Overload, QUICK);
        assert_eq!(limit.size(), 8);
        now += QUICK;
        round(&mut limit, &mut now, Feedback::Success, QUICK);
        assert_eq!(limit.size(), 8, "after a reduction it grows by one a round");
        round(&mut limit, &mut now, Feedback::Success, QUICK);
        assert_eq!(limit.size(), 9);
    }

    #[test]
    fn slow_answers_halve_the_limit_down_to_two() {
        let mut now = Instant::now();
        let mut limit = Limit::new(now);
        for _ in 0..10 {
            round(&mut limit, &mut now, Feedback::Success, SLOW + QUICK);
            now += QUICK;
        }
        assert_eq!(limit.size(), 2);
    }

    #[test]
    fn few_writes_do_not_raise_the_limit() {
        let now = Instant::now();
        let mut limit = Limit::new(now);
        limit.record(Feedback::Success, now, now + QUICK, false);
        assert_eq!(limit.size(), 16);
    }

    #[tokio::test]
    async fn permits_follow_the_limit() {
        let limit = ConcurrencyLimit::new();
        let mut permits = Vec::new();
        for _ in 0..16 {
            permits.push(limit.acquire().await);
        }
        assert_eq!(limit.free.available_permits(), 0);
        permits.pop().unwrap().release(Feedback::Success);
        assert_eq!(limit.free.available_permits(), 2, "the returned permit and one more");
        permits.pop().unwrap().release(Feedback::Overload);
        drop(permits.drain(..));
        limit.acquire().await.release(Feedback::Success);
        assert_eq!(limit.free.available_permits(), 8);
    }
}
