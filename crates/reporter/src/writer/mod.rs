//! The writer: the only task that writes the Node.
//!
//! It sleeps until a verdict changes or a heartbeat is due, and sends no request before. Then it reads the
//! Node, sets all conditions, and writes it if something changed. A write has the `resourceVersion` that was
//! read, so it never overwrites another writer. After a write without an answer, the next read shows the
//! result. It retries failures with backoff and the latest verdicts.

mod api;
mod backoff;
mod write_state;

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use self::{
    api::{ApiError, NodeApi},
    backoff::BackoffRange,
    write_state::Intervals,
};
use self::{backoff::Backoff, write_state::WriteState};
use crate::{
    metrics::{Metrics, Write},
    node::{self, Node},
    verdicts::Verdicts,
    yields::Yields,
};

/// The writer's intervals.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The write intervals.
    pub intervals: Intervals,
    /// The backoff after a failure.
    pub backoff: BackoffRange,
    /// How long a due write waits for results of other probes, which start together and share a write.
    pub propagation: Duration,
}

impl Timing {
    /// Returns the default intervals.
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            intervals: Intervals { heartbeat, detail: Duration::from_secs(30) },
            backoff: BackoffRange {
                first: Duration::from_millis(500),
                // With a short heartbeat, the backoff must be short too.
                longest: heartbeat.min(Duration::from_mins(1)),
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
    state: WriteState,
    backoff: Backoff,
    metrics: Metrics,
    yields: Yields,
    /// When this process started. Conditions that were reported before are written again, because the node may
    /// have rebooted.
    started: Timestamp,
    /// The last logged failure, so it is logged once.
    logged: Option<String>,
}

impl Writer {
    /// Creates a writer.
    pub fn new(api: NodeApi, timing: Timing, metrics: Metrics) -> Self {
        Self {
            api,
            timing,
            state: WriteState::new(timing.intervals),
            backoff: Backoff::new(timing.backoff),
            metrics,
            yields: Yields::default(),
            started: node::whole_seconds(Timestamp::now()),
            logged: None,
        }
    }

    /// Sets the conditions that other reporters write.
    #[must_use]
    pub fn yielding(self, yields: Yields) -> Self {
        Self { yields, ..self }
    }

    /// Writes until `stop`. A write in flight is finished within its deadline, and no other begins.
    pub async fn run(mut self, mut verdicts: watch::Receiver<Verdicts>, stop: CancellationToken) {
        let mut not_before = Instant::now();
        loop {
            let wanted = verdicts.borrow_and_update().clone();
            let due = self.state.due(&wanted, Instant::now()).map(|due| due.max(not_before));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = verdicts.changed() => match changed {
                    Ok(()) => continue,
                    // Without probes there are no changes.
                    Err(_) => return,
                },
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
                Ok(pass) => self.log_success(pass),
                Err(error) => not_before = Instant::now() + self.log_failure(&error),
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
        let mut node = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Pass::Stopped),
            node = self.api.get() => node?,
        };
        let now = Timestamp::now();
        let (others, own) = self.shared_out(wanted, &node);
        let oldest = self.started.max(now - self.timing.intervals.freshness());
        let write = node.update(&own, oldest, now);
        if write {
            self.api.put_status(&node).await?;
        }
        let dice = fastrand::f64();
        for (condition_type, verdict) in &others {
            // Labels may change, so the Node is read again when a heartbeat would be due.
            self.state.record(condition_type, verdict, Duration::ZERO, Instant::now(), dice);
        }
        for (condition_type, verdict) in &own {
            let age = node.heartbeat_age(condition_type, now).unwrap_or_default();
            let age = if write { Duration::ZERO } else { age };
            self.state.record(condition_type, verdict, age, Instant::now(), dice);
        }
        Ok(if write { Pass::Written } else { Pass::Unchanged })
    }

    /// Splits the verdicts into those that other reporters write on this node, and the own ones.
    fn shared_out(&self, wanted: &Verdicts, node: &Node) -> (Verdicts, Verdicts) {
        if self.yields.is_empty() {
            return (Verdicts::new(), wanted.clone());
        }
        let labels = node.labels();
        wanted.clone().into_iter().partition(|(type_, _)| self.yields.covers(type_, &labels))
    }

    fn log_success(&mut self, pass: Pass) {
        self.logged = None;
        match pass {
            Pass::Written => self.metrics.wrote(Write::Success),
            Pass::Unchanged => self.metrics.wrote(Write::Skipped),
            Pass::Stopped => {}
        }
        if self.backoff.succeeded() {
            info!("the Node can be written again");
        }
        debug!(?pass, "checked the Node");
    }

    /// Logs a failure, as a warning if it is new, and returns the wait.
    fn log_failure(&mut self, error: &ApiError) -> Duration {
        let wait = self.backoff.failed(error, fastrand::f64());
        let text = error.to_string();
        if !error.is_conflict() {
            self.metrics.wrote(Write::Error);
        }
        if error.is_conflict() || self.logged.as_ref() == Some(&text) {
            debug!(?wait, "the Node was not written: {text}");
        } else {
            warn!(?wait, "the Node was not written, will retry: {text}");
            self.logged = Some(text);
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
