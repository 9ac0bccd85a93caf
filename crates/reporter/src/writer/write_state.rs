//! The known state of the Node's conditions, which determines the next write. `now` is an argument.
//!
//! It only saves requests. The Node as read decides whether a condition is written. So a wrong state, after a
//! timeout or a write by somebody else, costs at most one read.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{threshold::Verdict, verdicts::Verdicts};

/// The jitter of heartbeats, as a fraction.
const JITTER: f64 = 0.1;

/// When to write conditions.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// The time after which an unchanged condition is renewed.
    pub heartbeat: Duration,
    /// The shortest time between two writes of only a reason or message. A new status is written at once.
    pub detail: Duration,
}

impl Intervals {
    /// Returns the age from which a heartbeat is renewed, with the most jitter.
    pub(super) fn freshness(&self) -> Duration {
        self.heartbeat.mul_f64(1.0 - JITTER)
    }

    /// Returns the age at which this heartbeat is renewed; `dice` is from 0 to 1.
    fn jittered(&self, dice: f64) -> Duration {
        self.heartbeat.mul_f64(1.0 - JITTER + 2.0 * JITTER * dice)
    }
}

/// What the Node is known to have, by condition type.
#[derive(Debug, Default)]
pub(super) struct WriteState(BTreeMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    verdict: Verdict,
    /// When the condition was last written.
    written: Instant,
    /// From 0 to 1, for the jitter of its renewal.
    dice: f64,
}

impl WriteState {
    /// Returns when the Node must be read for these verdicts; none without verdicts.
    pub(super) fn due(
        &self,
        wanted: &Verdicts,
        intervals: Intervals,
        now: Instant,
    ) -> Option<Instant> {
        let due = |(condition_type, verdict): (&String, &Verdict)| {
            let Some(entry) = self.0.get(condition_type) else { return now };
            let renewal = entry.written + intervals.jittered(entry.dice);
            if entry.verdict == *verdict {
                renewal
            } else if entry.verdict.status() == verdict.status() {
                renewal.min(entry.written + intervals.detail)
            } else {
                now
            }
        };
        wanted.iter().map(due).min()
    }

    /// Records that the Node has had this verdict for `age`; `dice` is from 0 to 1.
    pub(super) fn record(
        &mut self,
        condition_type: &str,
        verdict: &Verdict,
        age: Duration,
        now: Instant,
        dice: f64,
    ) {
        let written = now.checked_sub(age).unwrap_or(now);
        let entry = Entry { verdict: verdict.clone(), written, dice };
        self.0.insert(condition_type.to_owned(), entry);
    }

    /// Forgets the conditions that no probe decides any more.
    pub(super) fn retain(&mut self, wanted: &Verdicts) {
        self.0.retain(|condition_type, _| wanted.contains_key(condition_type));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use crate::{
        probe::Outcome,
        threshold::{ThresholdCounter, Thresholds},
    };

    const INTERVALS: Intervals =
        Intervals { heartbeat: Duration::from_mins(5), detail: Duration::from_secs(30) };

    fn wanted(healthy: bool, message: &str) -> Verdicts {
        let outcome = Outcome { healthy, reason: "Reason", message: message.to_owned() };
        let verdict =
            ThresholdCounter::new(Thresholds { success: 1, failure: 1 }).observe(outcome).unwrap();
        Verdicts::from([("a".to_owned(), verdict)])
    }

    fn recorded(age: Duration, now: Instant, dice: f64) -> WriteState {
        let mut state = WriteState::default();
        state.record("a", &wanted(true, "m")["a"], age, now, dice);
        state
    }

    /// Returns the rounded seconds until the next read.
    fn wait(state: &WriteState, wanted: &Verdicts, now: Instant) -> u64 {
        (state.due(wanted, INTERVALS, now).unwrap() - now + Duration::from_millis(500)).as_secs()
    }

    #[test]
    fn nothing_wanted_is_never_due() {
        assert_eq!(WriteState::default().due(&Verdicts::new(), INTERVALS, Instant::now()), None);
    }

    #[test]
    fn a_first_verdict_and_a_new_status_are_due_at_once() {
        let now = Instant::now();
        assert_eq!(wait(&WriteState::default(), &wanted(true, "m"), now), 0);
        assert_eq!(wait(&recorded(Duration::ZERO, now, 0.5), &wanted(false, "m"), now), 0);
    }

    #[test]
    fn an_unchanged_condition_is_due_at_its_heartbeat() {
        let now = Instant::now();
        for (dice, seconds) in [(0.0, 270), (0.5, 300), (1.0, 330)] {
            let state = recorded(Duration::ZERO, now, dice);
            assert_eq!(wait(&state, &wanted(true, "m"), now), seconds);
        }
        let state = recorded(Duration::from_secs(100), now, 0.5);
        assert_eq!(wait(&state, &wanted(true, "m"), now), 200);
    }

    #[test]
    fn a_shorter_heartbeat_takes_effect_at_once() {
        let now = Instant::now();
        let state = recorded(Duration::from_secs(100), now, 0.5);
        let sooner = Intervals { heartbeat: Duration::from_mins(1), ..INTERVALS };
        assert!(state.due(&wanted(true, "m"), sooner, now).unwrap() <= now);
    }

    #[test]
    fn a_condition_that_was_forgotten_is_due_when_it_comes_back() {
        let now = Instant::now();
        let mut state = recorded(Duration::ZERO, now, 0.5);
        state.retain(&Verdicts::new());
        assert_eq!(wait(&state, &wanted(true, "m"), now), 0);
    }

    #[test]
    fn a_new_message_waits_for_its_interval() {
        let now = Instant::now();
        let state = recorded(Duration::from_secs(10), now, 0.5);
        assert_eq!(wait(&state, &wanted(true, "n"), now), 20);
    }
}
