//! The number of reporters that a rollout replaces at once.

use k8s_openapi::api::apps::v1::DaemonSet;

/// The percentage of reporters that a rollout replaces at once. It is small, so that most nodes keep
/// their reporter if a new image does not start.
const USUAL: usize = 10;

/// `maxUnavailable` of a DaemonSet, in percent.
///
/// The DaemonSet controller counts every pod on a `NotReady` node as unavailable. A few broken nodes would use
/// up the allowance and stop the rollout everywhere else, so their share is added during a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxUnavailable(usize);

impl MaxUnavailable {
    /// Returns the value for the DaemonSet in the cluster. `not_ready` counts the covered `NotReady` nodes and
    /// is called only during a rollout.
    ///
    /// The share is rounded up to tens, so that the object rarely changes.
    pub fn of(live: Option<&DaemonSet>, not_ready: impl FnOnce() -> usize) -> Self {
        let status = live.and_then(|daemon_set| daemon_set.status.as_ref());
        let count = |number: i32| usize::try_from(number).unwrap_or_default();
        let desired = status.map_or(0, |status| count(status.desired_number_scheduled));
        let updated = status.and_then(|status| status.updated_number_scheduled).map_or(0, count);
        if updated >= desired {
            return Self::default();
        }
        let tens = (not_ready() * 10).div_ceil(desired);
        Self((USUAL + tens * 10).min(100))
    }

    pub(super) fn percent(self) -> String {
        format!("{}%", self.0)
    }
}

impl Default for MaxUnavailable {
    fn default() -> Self {
        Self(USUAL)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSetStatus;

    use super::*;

    fn daemon_set(desired: i32, updated: i32) -> DaemonSet {
        let status = DaemonSetStatus {
            desired_number_scheduled: desired,
            updated_number_scheduled: Some(updated),
            ..DaemonSetStatus::default()
        };
        DaemonSet { status: Some(status), ..DaemonSet::default() }
    }

    #[test]
    fn nodes_that_are_not_ready_do_not_use_up_the_allowance_of_a_rollout() {
        let of = |desired, not_ready| {
            MaxUnavailable::of(Some(&daemon_set(desired, 0)), || not_ready).percent()
        };
        assert_eq!(of(2, 0), "10%");
        // The API server rounds up to two of two.
        assert_eq!(of(2, 1), "60%");
        assert_eq!(of(5000, 1), "20%");
        assert_eq!(of(5000, 500), "20%");
        assert_eq!(of(5000, 501), "30%");
        assert_eq!(of(3, 3), "100%");
        // More nodes are `NotReady` than have a reporter.
        assert_eq!(of(3, 7), "100%");
    }

    #[test]
    fn nodes_are_counted_only_during_a_rollout() {
        for live in [None, Some(DaemonSet::default()), Some(daemon_set(3, 3))] {
            let limit = MaxUnavailable::of(live.as_ref(), || panic!("counted"));
            assert_eq!(limit, MaxUnavailable::default());
        }
    }
}
