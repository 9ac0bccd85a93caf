//! Leader election among several operators, by one Lease (coordination.k8s.io/v1).
//!
//! A [`Candidate`] receives the Leases that were read and written, and returns the next action. It reads no clock
//! and compares no clocks of different machines: times are the uptime of its own process, and `renewTime` is for
//! people. Its claim to lead ends by itself, independent of the Lease in the cluster.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;

/// How long other candidates wait before they acquire a Lease that is not renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long a claim lasts without renewal, counted from before the renewal was sent.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// How often a candidate reads the Lease, and its holder renews it.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// How long after the end of a claim its last write may still arrive. One more second remains before another
/// operator may lead, for clocks that run at different rates.
pub const LANDING: Duration = Duration::from_secs(4);

const _: () = assert!(
    RENEW_DEADLINE.as_secs() + LANDING.as_secs() < LEASE_DURATION.as_secs(),
    "a write begun as leader must have ended before another may lead"
);

/// A candidate for leadership.
#[derive(Debug)]
pub struct Candidate {
    identity: String,
    seen: Option<Seen>,
    /// Uptime at which the claim ends.
    claim: Option<Duration>,
}

/// A Lease as last seen.
#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// Uptime at which this version was first seen.
    since: Duration,
}

/// The next action of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Write this Lease: replace the one that it was made from, or create it if it has no resourceVersion. The
    /// resourceVersion keeps two candidates from both succeeding.
    Write(Box<Lease>),
    /// Another candidate holds the Lease for at least this long, unless it releases it.
    Wait(Duration),
    /// The leadership is lost.
    Lost(Loss),
}

/// Why the leadership was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The Lease was not renewed in time.
    Expired,
    /// The Lease names another holder, or none.
    Taken(String),
}

impl Candidate {
    /// Creates a candidate that has not seen the Lease. Each candidate needs a unique identity.
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None, claim: None }
    }

    /// Returns the uptime at which the claim to lead ends, if there is one.
    pub fn claim(&self) -> Option<Duration> {
        self.claim
    }

    /// Records the Lease as read; `None` if it does not exist. `uptime` is the uptime at the response.
    pub fn observe(&mut self, lease: Option<Lease>, uptime: Duration) {
        match (lease, &mut self.seen) {
            // Somebody deleted the Lease. That does not end the claim of its last holder.
            (None, seen) => {
                if let Some(seen) = seen {
                    seen.lease.metadata = ObjectMeta::default();
                }
            }
            (Some(lease), Some(seen)) if version(&lease) == version(&seen.lease) => {}
            (Some(lease), seen) => *seen = Some(Seen { lease, since: uptime }),
        }
    }

    /// Records that a Lease was written. `sent` is the uptime before the request was sent: no candidate can have
    /// seen this renewal earlier, so no candidate's wait ends earlier.
    pub fn written(&mut self, lease: Lease, sent: Duration) {
        if holder(&lease) == Some(self.identity.as_str()) {
            self.claim = Some(sent + RENEW_DEADLINE);
        }
        self.seen = Some(Seen { lease, since: sent });
    }

    /// Returns the next action. `now` is only for `renewTime`.
    pub fn decide(&self, uptime: Duration, now: Timestamp) -> Decision {
        let holder = self.seen.as_ref().and_then(|seen| holder(&seen.lease));
        let ours = holder == Some(self.identity.as_str());
        if let Some(end) = self.claim {
            if uptime >= end {
                return Decision::Lost(Loss::Expired);
            }
            if !ours {
                return Decision::Lost(Loss::Taken(holder.unwrap_or_default().to_owned()));
            }
        }
        match (&self.seen, holder) {
            (Some(seen), Some(_)) if !ours && uptime < seen.expiry() => {
                Decision::Wait(seen.expiry().saturating_sub(uptime))
            }
            _ => Decision::Write(Box::new(self.held(now))),
        }
    }

    /// Ends the claim, when the leader stops and no longer writes. Returns the Lease to write, so that other
    /// candidates need not wait; `None` if this candidate is not the holder.
    pub fn release(&mut self, now: Timestamp) -> Option<Lease> {
        self.claim.take()?;
        let mut lease = self.seen.take()?.lease;
        if holder(&lease) != Some(self.identity.as_str()) {
            return None;
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        // The API server requires a positive value; client-go writes the same.
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(now));
        Some(lease)
    }

    /// Returns the Lease as last seen, held by this candidate.
    fn held(&self, now: Timestamp) -> Lease {
        let mut lease = self.seen.as_ref().map(|seen| seen.lease.clone()).unwrap_or_default();
        let LeaseSpec {
            holder_identity,
            lease_duration_seconds,
            lease_transitions,
            acquire_time,
            renew_time,
            preferred_holder: _,
            strategy: _,
        } = lease.spec.get_or_insert_default();
        if holder_identity.as_deref() != Some(self.identity.as_str()) {
            // The first holder is not a transition.
            let transitions =
                holder_identity.is_some().then_some(1 + lease_transitions.unwrap_or(0));
            *lease_transitions = Some(transitions.unwrap_or(0));
            *holder_identity = Some(self.identity.clone());
            *acquire_time = Some(MicroTime(now));
        }
        *lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        *renew_time = Some(MicroTime(now));
        lease
    }
}

impl Seen {
    /// Returns the uptime from which another candidate may acquire the Lease, if nothing changes.
    fn expiry(&self) -> Duration {
        let spec = self.lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let promised = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        self.since + promised.map_or(LEASE_DURATION, Duration::from_secs)
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

fn version(lease: &Lease) -> Option<&str> {
    lease.metadata.resource_version.as_deref()
}
