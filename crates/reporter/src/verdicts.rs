//! The latest verdict of each condition, between the probes and the writer.
//!
//! It is not a queue: a new verdict replaces the last one, so an API server that is out of reach for a day
//! costs no memory.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::threshold::Verdict;

/// The latest verdicts by condition type.
pub type Verdicts = BTreeMap<String, Verdict>;

/// The sender, which each probe clones.
#[derive(Clone, Debug)]
pub struct Publisher(watch::Sender<Verdicts>);

/// Creates the sender, and the receiver of the writer, which wakes on changes.
pub fn channel() -> (Publisher, watch::Receiver<Verdicts>) {
    let (sender, receiver) = watch::channel(Verdicts::new());
    (Publisher(sender), receiver)
}

impl Publisher {
    /// Replaces a condition's verdict. Returns whether it changed; otherwise the writer is not woken.
    pub fn publish(&self, condition_type: &str, verdict: &Verdict) -> bool {
        self.0.send_if_modified(|verdicts| {
            if verdicts.get(condition_type) == Some(verdict) {
                return false;
            }
            verdicts.insert(condition_type.to_owned(), verdict.clone());
            true
        })
    }

    /// Retracts a condition's verdict. The writer then leaves the condition as it is.
    pub fn retract(&self, condition_type: &str) {
        self.0.send_if_modified(|verdicts| verdicts.remove(condition_type).is_some());
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

    #[test]
    fn an_unchanged_verdict_wakes_nobody() {
        let (publisher, receiver) = channel();
        let outcome = Outcome { healthy: true, reason: "R", message: "m".into() };
        let verdict =
            ThresholdCounter::new(Thresholds { success: 1, failure: 1 }).observe(outcome).unwrap();
        assert!(publisher.publish("a", &verdict));
        assert!(receiver.has_changed().unwrap());
        let mut receiver = receiver;
        receiver.mark_unchanged();
        assert!(!publisher.publish("a", &verdict));
        assert!(!receiver.has_changed().unwrap());
        assert!(publisher.publish("b", &verdict));
        assert_eq!(receiver.borrow_and_update().len(), 2);
        publisher.retract("a");
        assert_eq!(receiver.borrow_and_update().keys().collect::<Vec<_>>(), ["b"]);
        publisher.retract("a");
        assert!(!receiver.has_changed().unwrap());
    }
}
