//! Thresholds: how many equal outcomes decide a condition.
//!
//! The counting is kubelet's: a different outcome starts a new run, and the verdict changes when a run is as
//! long as its threshold. Before the first run is complete there is no verdict, and nothing is written. So a
//! restart of the reporter changes no condition.

use crate::probe::Outcome;

/// The thresholds, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes in a row that make the condition True.
    pub success: u32,
    /// Failures in a row that make it False.
    pub failure: u32,
}

/// A verdict about a condition. Only a [`ThresholdCounter`] creates one, so everything that is written has
/// passed the thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict(Outcome);

impl Verdict {
    /// The condition's status.
    pub fn status(&self) -> &'static str {
        if self.0.healthy { "True" } else { "False" }
    }

    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// The condition's message.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

/// Counts the outcomes of one probe.
#[derive(Debug)]
pub struct ThresholdCounter {
    thresholds: Thresholds,
    /// Whether the last outcome was healthy, and the length of its run.
    run: Option<(bool, u32)>,
    decided: Option<bool>,
}

impl ThresholdCounter {
    /// Creates a counter without outcomes.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, run: None, decided: None }
    }

    /// Returns the last decision.
    pub fn decided(&self) -> Option<bool> {
        self.decided
    }

    /// Counts an outcome. Returns the verdict if the outcome agrees with it. Another outcome decides nothing
    /// yet and is not reported.
    pub fn observe(&mut self, outcome: Outcome) -> Option<Verdict> {
        self.take(outcome, 1)
    }

    /// Counts an outcome that repeats the last one, without extending the run.
    pub fn observe_again(&mut self, outcome: Outcome) -> Option<Verdict> {
        self.take(outcome, 0)
    }

    fn take(&mut self, outcome: Outcome, counts: u32) -> Option<Verdict> {
        let healthy = outcome.healthy;
        let length = match self.run {
            Some((same, length)) if same == healthy => length.saturating_add(counts),
            _ => 1,
        };
        self.run = Some((healthy, length));
        let needed = if healthy { self.thresholds.success } else { self.thresholds.failure };
        if length >= needed {
            self.decided = Some(healthy);
        }
        (self.decided == Some(healthy)).then_some(Verdict(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds outcomes, `+` or `-`, and returns the verdict after each: `T`, `F`, or `.` for none.
    fn verdicts(success: u32, failure: u32, outcomes: &str) -> String {
        let mut counter = ThresholdCounter::new(Thresholds { success, failure });
        outcomes
            .chars()
            .map(|outcome| {
                let outcome =
                    Outcome { healthy: outcome == '+', reason: "Reason", message: String::new() };
                match counter.observe(outcome).as_ref().map(Verdict::status) {
                    Some("True") => 'T',
                    Some(_) => 'F',
                    None => '.',
                }
            })
            .collect()
    }

    #[test]
    fn nothing_is_said_before_a_threshold_is_reached() {
        assert_eq!(verdicts(3, 3, "++-++--"), ".......");
    }

    #[test]
    fn a_run_as_long_as_its_threshold_decides() {
        assert_eq!(verdicts(1, 3, "--+---"), "..T..F");
        assert_eq!(verdicts(2, 1, "+-++"), ".F.T");
    }

    #[test]
    fn a_short_dip_changes_nothing() {
        assert_eq!(verdicts(1, 3, "+--+--+"), "T..T..T");
        assert_eq!(verdicts(3, 1, "-++-++-"), "F..F..F");
    }

    #[test]
    fn thresholds_of_one_follow_every_outcome() {
        assert_eq!(verdicts(1, 1, "+-+-"), "TFTF");
    }

    #[test]
    fn a_repeated_outcome_counts_once() {
        let failed = || Outcome { healthy: false, reason: "ProbeFailed", message: String::new() };
        let mut counter = ThresholdCounter::new(Thresholds { success: 1, failure: 2 });
        assert_eq!(counter.observe(failed()), None);
        assert_eq!(counter.observe_again(failed()), None);
        assert!(counter.observe(failed()).is_some());
        assert!(counter.observe_again(failed()).is_some(), "it agrees");
    }

    #[test]
    fn an_agreeing_outcome_brings_its_own_words() {
        let mut counter = ThresholdCounter::new(Thresholds { success: 1, failure: 1 });
        let outcome = |message: &str| Outcome {
            healthy: false,
            reason: "ProbeFailed",
            message: message.to_owned(),
        };
        counter.observe(outcome("status 500"));
        let verdict = counter.observe(outcome("connection refused"));
        assert_eq!(verdict.as_ref().map(Verdict::message), Some("connection refused"));
    }
}
