//! Logs a failure once. An outage of a day must not fill the log of every node.

use std::time::Duration;

use tracing::{debug, info, warn};

/// The last failure of one activity.
#[derive(Debug)]
pub(crate) struct FailureLog {
    /// What failed, as the start of a sentence.
    failed: &'static str,
    /// What works again, as a sentence.
    recovered: &'static str,
    last: Option<String>,
}

impl FailureLog {
    pub(crate) fn new(failed: &'static str, recovered: &'static str) -> Self {
        Self { failed, recovered, last: None }
    }

    /// Logs a failure, as a warning if it is not the last one again.
    pub(crate) fn failed(&mut self, error: &str, wait: Duration) {
        if self.last.as_deref() == Some(error) {
            debug!(?wait, "{}: {error}", self.failed);
        } else {
            warn!(?wait, "{}, will retry: {error}", self.failed);
            self.last = Some(error.to_owned());
        }
    }

    /// Logs a success after a failure.
    pub(crate) fn succeeded(&mut self) {
        if self.last.take().is_some() {
            info!("{}", self.recovered);
        }
    }
}
