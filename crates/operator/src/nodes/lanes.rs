//! How many writes of nodes are under way at the same time.
//!
//! More at a time are faster up to what the API server bears, and beyond that only wait there,
//! where they are in everybody's way. So the number follows what it answers, as TCP's congestion
//! window does (RFC 5681): it grows quickly up to the last number that was too many, slowly beyond,
//! and is halved when the API server says or shows that it is too many.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The fewest and the most writes at a time, and how many it begins with.
const LEAST: f64 = 2.0;
pub(super) const MOST: u16 = 96;
const FIRST: f64 = 16.0;

/// An answer that takes so long shows an API server that has too much to do: a write takes it
/// milliseconds, and it lets no request wait for longer than a minute.
const SLOW: Duration = Duration::from_secs(2);

/// The lanes that writes take.
#[derive(Debug)]
pub(super) struct Lanes {
    free: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: Window,
    /// How many lanes there are: those in use and those that are free.
    lanes: usize,
}

/// A lane that one write takes.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    _permit: SemaphorePermit<'a>,
    began: Instant,
}

/// How the API server took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was carried out or refused for what it was.
    Taken,
    /// It was refused or not answered since there is too much to do.
    TooMuch,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let window = Window::new(Instant::now());
        let lanes = window.size();
        let state = Mutex::new(State { window, lanes });
        Self { free: Semaphore::new(lanes), state }
    }

    /// Waits for a lane.
    pub(super) async fn take(&self) -> Lane<'_> {
        let permit = self.free.acquire().await.expect("the semaphore is never closed");
        Lane { lanes: self, _permit: permit, began: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane<'_> {
    /// Gives the lane back, with how its write was taken.
    pub(super) fn answered(self, answer: Answer) {
        let now = Instant::now();
        let busy = self.lanes.free.available_permits() == 0;
        let mut state = self.lanes.lock();
        state.window.answered(answer, self.began, now, busy);
        let wanted = state.window.size();
        if wanted > state.lanes {
            self.lanes.free.add_permits(wanted - state.lanes);
            state.lanes = wanted;
        }
        // Our own permit comes back after this, so fewer may be free than are to go; the next answers
        // take the rest away.
        if wanted < state.lanes {
            state.lanes -= self.lanes.free.forget_permits(state.lanes - wanted);
        }
    }
}

/// How many writes there may be at a time. Pure: what time it is, is told.
#[derive(Debug)]
struct Window {
    size: f64,
    /// Up to here it grows quickly.
    quick: f64,
    /// When it was last made smaller. What was sent before says nothing about the smaller window.
    shrunk: Instant,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { size: FIRST, quick: f64::from(MOST), shrunk: now }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 to 96")]
    fn size(&self) -> usize {
        self.size as usize
    }

    /// Takes in the answer to what was sent at `began`. `busy` is whether all lanes were in use: only
    /// then does it say anything about one more.
    fn answered(&mut self, answer: Answer, began: Instant, now: Instant, busy: bool) {
        if began < self.shrunk {
            return;
        }
        if answer == Answer::TooMuch || now - began > SLOW {
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

    /// Answers a window full of writes, each `took` after it was sent.
    fn round(window: &mut Window, now: &mut Instant, answer: Answer, took: Duration) {
        let began = *now;
        *now += took;
        for _ in 0..window.size() {
            window.answered(answer, began, *now, true);
        }
    }

    #[test]
    fn it_grows_while_the_api_server_keeps_up_and_never_beyond_the_most() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        round(&mut window, &mut now, Answer::Taken, QUICK);
        assert_eq!(window.size(), 32);
        for _ in 0..10 {
            round(&mut window, &mut now, Answer::Taken, QUICK);
        }
        assert_eq!(window.size(), usize::from(MOST));
    }

    #[test]
    fn it_is_halved_once_for_all_that_was_under_way() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        round(&mut window, &mut now, Answer::TooMuch, QUICK);
        assert_eq!(window.size(), 8);
        now += QUICK;
        round(&mut window, &mut now, Answer::Taken, QUICK);
        assert_eq!(window.size(), 8, "from here on it grows by one a round");
        round(&mut window, &mut now, Answer::Taken, QUICK);
        assert_eq!(window.size(), 9);
    }

    #[test]
    fn slowness_is_too_much_and_two_remain_always() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        for _ in 0..10 {
            round(&mut window, &mut now, Answer::Taken, SLOW + QUICK);
            now += QUICK;
        }
        assert_eq!(window.size(), 2);
    }

    #[test]
    fn who_has_little_to_write_learns_nothing() {
        let now = Instant::now();
        let mut window = Window::new(now);
        window.answered(Answer::Taken, now, now + QUICK, false);
        assert_eq!(window.size(), 16);
    }

    #[tokio::test]
    async fn lanes_follow_the_window() {
        let lanes = Lanes::new();
        let mut taken = Vec::new();
        for _ in 0..16 {
            taken.push(lanes.take().await);
        }
        assert_eq!(lanes.free.available_permits(), 0);
        taken.pop().unwrap().answered(Answer::Taken);
        assert_eq!(lanes.free.available_permits(), 2, "its own and one more");
        taken.pop().unwrap().answered(Answer::TooMuch);
        drop(taken.drain(..));
        lanes.take().await.answered(Answer::Taken);
        assert_eq!(lanes.free.available_permits(), 8);
    }
}
