//! The writer: the only task that writes the Node.
//!
//! It sleeps until a verdict changes or a heartbeat is due, and sends no request before. Then it reads the
//! Node, sets all conditions, and writes it if something changed. A write has the `resourceVersion` that was
//! read, so it never overwrites another writer. After a write without an answer, the next read shows the
//! result. It retries failures with backoff and the latest verdicts.

mod api;
mod write_state;

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::write_state::WriteState;
pub use self::{api::NodeApi, write_state::Intervals};
use crate::{
    api_error::ApiError,
    backoff::{Backoff, BackoffRange},
    failure_log::FailureLog,
    metrics::{Metrics, Write},
    node,
    verdicts::Verdicts,
};

/// The writer's intervals, without the heartbeat, which may change.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The shortest time between two writes of only a reason or message.
    pub detail: Duration,
    /// The backoff after a failure. A wait is no longer than the heartbeat.
    pub backoff: BackoffRange,
    /// How long a due write waits for results of other probes, which start together and share a write.
    pub propagation: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            detail: Duration::from_secs(30),
            backoff: BackoffRange {
                first: Duration::from_millis(500),
                longest: Duration::from_mins(1),
            },
            propagation: Duration::from_millis(100),
        }
    }
}

/// The result of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The Node was up to date.
    Unchanged,
    /// The Node was written.
    Written,
    /// The process is stopping, so nothing was written.
    Stopped,
}

/// Writes the conditions of one Node.
pub struct Writer {
    api: NodeApi,
    timing: Timing,
    heartbeat: watch::Receiver<Duration>,
    state: WriteState,
    backoff: Backoff,
    metrics: Metrics,
    /// When this process started. Conditions that were reported before are written again, because the node may
    /// have rebooted.
    started: Timestamp,
    log: FailureLog,
}

impl Writer {
    /// Creates a writer.
    pub fn new(
        api: NodeApi,
        timing: Timing,
        heartbeat: watch::Receiver<Duration>,
        metrics: Metrics,
    ) -> Self {
        Self {
            api,
            timing,
            heartbeat,
            state: WriteState::default(),
            backoff: Backoff::default(),
            metrics,
            started: node::whole_seconds(Timestamp::now()),
            log: FailureLog::new("the Node was not written", "the Node can be written again"),
        }
    }

    /// Writes until `stop`. A write in flight is finished within its deadline, and no other begins.
    pub async fn run(mut self, mut verdicts: watch::Receiver<Verdicts>, stop: CancellationToken) {
        let mut not_before = Instant::now();
        loop {
            let wanted = verdicts.borrow_and_update().clone();
            let due = self.state.due(&wanted, self.intervals(), Instant::now());
            let due = due.map(|due| due.max(not_before));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = verdicts.changed() => match changed {
                    Ok(()) => continue,
                    // Without probes there are no changes.
                    Err(_) => return,
                },
                Ok(()) = self.heartbeat.changed() => continue,
                () = sleep_until(due) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = time::sleep(self.timing.propagation) => {}
            }
            let wanted = verdicts.borrow_and_update().clone();
            match self.pass(&wanted, &stop).await {
                Ok(Pass::Stopped) => return,
                Ok(pass) => self.count_success(pass),
                Err(error) => not_before = Instant::now() + self.count_failure(&error),
            }
        }
    }

    /// Reads the Node once and writes it if necessary.
    ///
    /// # Errors
    ///
    /// When a request failed. Without an answer to a write, the Node may have been written.
    pub async fn pass(
        &mut self,
        wanted: &Verdicts,
        stop: &CancellationToken,
    ) -> Result<Pass, ApiError> {
        self.state.retain(wanted);
        if wanted.is_empty() {
            return Ok(Pass::Unchanged);
        }
        let mut node = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Pass::Stopped),
            node = self.api.get() => node?,
        };
        let now = Timestamp::now();
        let oldest = self.started.max(now - self.intervals().freshness());
        let write = node.update(wanted, oldest, now);
        if write {
            self.api.put_status(&node).await?;
        }
        let dice = fastrand::f64();
        for (condition_type, verdict) in wanted {
            let age = node.heartbeat_age(condition_type, now).unwrap_or_default();
            let age = if write { Duration::ZERO } else { age };
            self.state.record(condition_type, verdict, age, Instant::now(), dice);
        }
        Ok(if write { Pass::Written } else { Pass::Unchanged })
    }

    fn intervals(&self) -> Intervals {
        Intervals { heartbeat: *self.heartbeat.borrow(), detail: self.timing.detail }
    }

    fn count_success(&mut self, pass: Pass) {
        match pass {
            Pass::Written => self.metrics.wrote(Write::Success),
            Pass::Unchanged => self.metrics.wrote(Write::Skipped),
            Pass::Stopped => {}
        }
        self.backoff.succeeded();
        self.log.succeeded();
        debug!(?pass, "checked the Node");
    }

    /// Returns the wait after a failure.
    fn count_failure(&mut self, error: &ApiError) -> Duration {
        let BackoffRange { first, longest } = self.timing.backoff;
        // With a short heartbeat, the backoff must be short too.
        let range = BackoffRange { first, longest: longest.min(*self.heartbeat.borrow()) };
        let wait = self.backoff.failed(error, range, fastrand::f64());
        if error.is_conflict() {
            debug!(?wait, "the Node was not written: {error}");
        } else {
            self.metrics.wrote(Write::Error);
            self.log.failed(&error.to_string(), wait);
        }
        wait
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
