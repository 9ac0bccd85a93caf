//! The right to write: every write of the operator passes [`Leadership::write`].

use std::time::Duration;

use node_readiness_engine::lease::LANDING;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The timeout of a write. The API server's own limit is a minute.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The right to write, which all writers share.
///
/// It is a deadline and not a boolean, so it expires unless it is renewed.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<Claim>);

/// Until when this process may write, by its monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claim {
    /// It may not write.
    Standby,
    /// Until then, unless the claim is renewed.
    Until(Instant),
    /// Without limit, because there is no other operator.
    Unlimited,
}

/// Why a write did not succeed.
#[derive(Debug, Error)]
pub(crate) enum NotWritten<E> {
    /// Nothing was sent.
    #[error("this operator does not hold the lease")]
    NotLeader,
    /// The write may have been applied.
    #[error("the API server did not answer in time")]
    Timeout,
    /// The API server refused the write, or could not be reached.
    #[error("{0}")]
    Failed(E),
}

impl Leadership {
    /// Returns the sender of a candidate's claim, and its leadership.
    pub(crate) fn new() -> (watch::Sender<Claim>, Self) {
        let (claim, seen) = watch::channel(Claim::Standby);
        (claim, Self(seen))
    }

    /// Returns the leadership of an operator without leader election.
    pub(crate) fn unlimited() -> Self {
        Self(watch::channel(Claim::Unlimited).1)
    }

    /// Returns whether a write may begin now.
    pub(crate) fn may_write(&self) -> bool {
        self.deadline().is_some()
    }

    /// Waits until this process may write for the first time.
    pub(crate) async fn acquired(self) {
        let Self(mut claim) = self;
        drop(claim.wait_for(|claim| !matches!(claim, Claim::Standby)).await);
    }

    /// Sends a write if this process leads, and waits for it at most until another operator may lead.
    pub(crate) async fn write<T, E>(
        &self,
        write: impl Future<Output = Result<T, E>>,
    ) -> Result<T, NotWritten<E>> {
        let deadline = self.deadline().ok_or(NotWritten::NotLeader)?;
        match timeout_at(deadline, write).await {
            Ok(done) => done.map_err(NotWritten::Failed),
            Err(_) => Err(NotWritten::Timeout),
        }
    }

    /// Returns the deadline of a write that begins now; `None` if none may begin.
    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        match *self.0.borrow() {
            Claim::Unlimited => Some(now + TIMEOUT),
            Claim::Until(end) if now < end => Some((now + TIMEOUT).min(end + LANDING)),
            Claim::Until(_) | Claim::Standby => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::future::pending;

    const CLAIM: Duration = Duration::from_secs(10);

    async fn forever() -> Result<(), Infallible> {
        pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_expires() {
        let (claim, leadership) = Leadership::new();
        assert!(!leadership.may_write());
        claim.send_replace(Claim::Until(Instant::now() + CLAIM));
        assert!(leadership.may_write());
        tokio::time::advance(CLAIM).await;
        assert!(!leadership.may_write());
        let written = leadership.write(async { Ok::<_, Infallible>(()) }).await;
        assert!(matches!(written, Err(NotWritten::NotLeader)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_ends_at_most_the_landing_time_after_its_claim() {
        let (claim, leadership) = Leadership::new();
        let began = Instant::now();
        claim.send_replace(Claim::Until(began + CLAIM));
        tokio::time::advance(CLAIM.mul_f64(0.9)).await;
        assert!(matches!(leadership.write(forever()).await, Err(NotWritten::Timeout)));
        assert!(began.elapsed() <= CLAIM + LANDING + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn writes_without_leader_election_still_have_a_timeout() {
        let leadership = Leadership::unlimited();
        leadership.clone().acquired().await;
        let began = Instant::now();
        assert!(matches!(leadership.write(forever()).await, Err(NotWritten::Timeout)));
        assert!(began.elapsed() < TIMEOUT + Duration::from_secs(1));
    }
}
