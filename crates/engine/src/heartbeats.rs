//! Heartbeats of conditions, by observed time.
//!
//! Staleness depends only on the operator's own watch: on the time in which it watched without interruption and
//! saw no new heartbeat. So neither a node's clock, nor an outage of the API server, nor a restart makes a condition
//! stale. Kubernetes' node lifecycle controller also works on observed time.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::{Interned, Node, NodeCondition};

/// The observed heartbeats of every node. Times are passed as the operator's uptime and stored as time spent
/// watching, which does not advance while the watch is interrupted.
#[derive(Debug, Default)]
pub struct Heartbeats {
    /// By name of the node.
    nodes: HashMap<String, Observed>,
    /// The total time of interruptions until the last one ended.
    missed: Duration,
    /// When the present interruption began, if there is one.
    interrupted: Option<Duration>,
}

/// The observations of one node.
#[derive(Debug)]
struct Observed {
    boot_id: Option<Box<str>>,
    /// When the node was first seen, in milliseconds.
    since: u64,
    /// When a change of the boot was seen, in milliseconds.
    rebooted: Option<u64>,
    /// By type of the condition.
    beats: Box<[(Interned, Beat)]>,
}

/// The observation of one condition's heartbeat. It is small, because there is one for each condition of each
/// node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beat {
    /// The heartbeat's value, by any clock. Only changes of it matter.
    value: Option<NonZeroU32>,
    /// When this value was first seen, in milliseconds.
    seen: u64,
}

impl Heartbeats {
    /// Records a node's heartbeats. Returns whether any of its conditions has a new one.
    pub fn observe(&mut self, node: &Node, uptime: Duration) -> bool {
        let watched = self.watched_millis(uptime);
        let known = self.nodes.get(node.name());
        let mut beat = false;
        let mut observe = |condition: &NodeCondition| {
            let (type_, value) = (&condition.type_, condition.heartbeat());
            let before = known.and_then(|known| find(&known.beats, type_));
            if let Some(before) = before.filter(|before| before.value == value) {
                return (type_.clone(), *before);
            }
            // A condition that appears on a known node was just written.
            beat |= known.is_some();
            (type_.clone(), Beat { value, seen: watched })
        };
        let beats = node.conditions().iter().map(&mut observe).collect();
        let boot_id = node.boot_id();
        let Some(known) = self.nodes.get_mut(node.name()) else {
            let boot_id = boot_id.map(Into::into);
            let observed = Observed { boot_id, since: watched, rebooted: None, beats };
            self.nodes.insert(node.name().to_owned(), observed);
            return false;
        };
        known.beats = beats;
        if let Some(boot_id) = boot_id.filter(|id| known.boot_id.as_deref() != Some(*id)) {
            let before = known.boot_id.replace(boot_id.into());
            known.rebooted = before.map(|_| watched);
        }
        beat
    }

    /// Stops counting silence, because the watch was interrupted.
    pub fn interrupt(&mut self, uptime: Duration) {
        self.interrupted.get_or_insert(uptime);
    }

    /// Counts silence again. The time of the interruption counts for no condition.
    pub fn resume(&mut self, uptime: Duration) {
        if let Some(since) = self.interrupted.take() {
            self.missed += uptime.saturating_sub(since);
        }
    }

    /// Returns the time spent watching, in milliseconds.
    pub fn watched_millis(&self, uptime: Duration) -> u64 {
        u64::try_from(self.watched(uptime).as_millis()).unwrap_or(u64::MAX)
    }

    fn watched(&self, uptime: Duration) -> Duration {
        self.interrupted.unwrap_or(uptime).saturating_sub(self.missed)
    }

    /// Removes a deleted node.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Removes every node that does not exist.
    pub fn retain(&mut self, exists: &HashSet<&str>) {
        self.nodes.retain(|node, _| exists.contains(node.as_str()));
    }

    /// Returns the heartbeats of one node, looked up once for all rules.
    pub(crate) fn of(&self, node: &Node, uptime: Duration) -> NodeHeartbeats<'_> {
        NodeHeartbeats { observed: self.nodes.get(node.name()), watched: self.watched(uptime) }
    }
}

/// The heartbeats of one node at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeHeartbeats<'a> {
    /// `None` for a node that was never observed.
    observed: Option<&'a Observed>,
    /// The time spent watching.
    watched: Duration,
}

impl NodeHeartbeats<'_> {
    /// Returns the time spent watching since the last new heartbeat of a condition; `None` if it was never
    /// observed.
    pub(crate) fn silent_for(self, type_: &str) -> Option<Duration> {
        Some(self.age_of(find(&self.observed?.beats, type_)?))
    }

    /// Returns whether a new heartbeat of a condition was seen within this time.
    pub(crate) fn has_beaten_within(self, type_: &str, time: Duration) -> bool {
        let Some(observed) = self.observed else { return false };
        let beat = find(&observed.beats, type_).filter(|beat| beat.seen > observed.since);
        beat.is_some_and(|beat| self.age_of(beat) < time)
    }

    /// Returns whether a new heartbeat of a condition was seen after the node's last boot; `None` if that was
    /// not observed: the node had booted before, or both were seen at once.
    pub(crate) fn is_reported_since_boot(self, type_: &str) -> Option<bool> {
        let observed = self.observed?;
        let (rebooted, beat) = (observed.rebooted?, find(&observed.beats, type_)?);
        (beat.seen != rebooted).then_some(beat.seen > rebooted)
    }

    /// Returns when a reboot of the node was observed, in milliseconds of watching; `None` if none was.
    pub(crate) fn rebooted(self) -> Option<u64> {
        self.observed?.rebooted
    }

    fn age_of(self, beat: &Beat) -> Duration {
        self.watched.saturating_sub(Duration::from_millis(beat.seen))
    }
}

fn find<'a>(beats: &'a [(Interned, Beat)], type_: &str) -> Option<&'a Beat> {
    let found = beats.binary_search_by(|(known, _)| (**known).cmp(type_)).ok()?;
    Some(&beats[found].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(heartbeat: &str) -> Node {
        let condition = json!({"type": "C", "status": "True", "lastHeartbeatTime": heartbeat});
        serde_json::from_value(json!({
            "metadata": {"name": "n"}, "status": {"conditions": [condition]},
        }))
        .unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_counted_from_the_last_new_heartbeat() {
        let mut beats = Heartbeats::default();
        let old = node("2026-01-01T00:00:00Z");
        beats.observe(&old, seconds(10));
        beats.observe(&old, seconds(20));
        assert_eq!(beats.of(&old, seconds(30)).silent_for("C"), Some(seconds(20)));
        let new = node("2026-01-01T00:00:30Z");
        assert!(beats.observe(&new, seconds(40)));
        assert_eq!(beats.of(&new, seconds(45)).silent_for("C"), Some(seconds(5)));
    }

    #[test]
    fn a_wrong_clock_has_no_effect() {
        let mut beats = Heartbeats::default();
        beats.observe(&node("1999-01-01T00:00:00Z"), seconds(0));
        let back = node("1998-01-01T00:00:00Z");
        assert!(beats.observe(&back, seconds(5)));
        assert_eq!(beats.of(&back, seconds(6)).silent_for("C"), Some(seconds(1)));
    }

    #[test]
    fn an_interruption_does_not_count_as_silence() {
        let mut beats = Heartbeats::default();
        let node = node("2026-01-01T00:00:00Z");
        beats.observe(&node, seconds(0));
        let silence =
            |beats: &Heartbeats, at| beats.of(&node, seconds(at)).silent_for("C").unwrap();
        beats.interrupt(seconds(10));
        beats.interrupt(seconds(50));
        assert_eq!(silence(&beats, 90), seconds(10));
        beats.resume(seconds(100));
        assert_eq!(silence(&beats, 105), seconds(15));
        beats.resume(seconds(110));
        assert_eq!(silence(&beats, 110), seconds(20));
    }

    #[test]
    fn a_heartbeat_before_a_boot_differs_from_one_after_it() {
        let mut beats = Heartbeats::default();
        let booted = |boot: &str, heartbeat: &str| -> Node {
            let condition = json!({"type": "C", "status": "True", "lastHeartbeatTime": heartbeat});
            serde_json::from_value(json!({
                "metadata": {"name": "n"},
                "status": {"conditions": [condition], "nodeInfo": {"bootID": boot}},
            }))
            .unwrap()
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z");
        let since_boot = |beats: &Heartbeats| {
            beats.of(&booted("b", old), seconds(0)).is_reported_since_boot("C")
        };
        beats.observe(&booted("a", old), seconds(0));
        assert_eq!(since_boot(&beats), None, "no boot was seen");
        beats.observe(&booted("b", old), seconds(10));
        assert_eq!(since_boot(&beats), Some(false));
        beats.observe(&booted("b", new), seconds(20));
        assert_eq!(since_boot(&beats), Some(true));
        // A list after an interruption shows both at once.
        beats.observe(&booted("c", old), seconds(30));
        assert_eq!(since_boot(&beats), None);
    }

    #[test]
    fn a_heartbeat_from_before_the_start_is_not_new() {
        let mut beats = Heartbeats::default();
        let bare = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
        assert!(!beats.observe(&bare, seconds(0)));
        let node = node("2026-01-01T00:00:00Z");
        assert!(beats.observe(&node, seconds(1)));
        assert!(!beats.observe(&node, seconds(2)));
        assert!(beats.of(&node, seconds(2)).silent_for("other").is_none());
    }
}
