//! A Node as the API server sent it, and the reporter's conditions in it.
//!
//! A write is a PUT of the whole object, which removes missing fields. So the Node is kept as JSON and not as a
//! type of this release, and only the reporter's conditions change.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{threshold::Verdict, verdicts::Verdicts};

/// A Node, verbatim.
#[derive(Clone, Debug, PartialEq)]
pub struct Node(Value);

/// Why an object cannot be used as a Node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `status.conditions` is not a list.
    #[error("not a Node: its {0} is not what a Node has there")]
    Shape(&'static str),
}

impl Node {
    /// Parses the API server's answer.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or `status.conditions` is neither missing nor a list.
    pub fn from_json(json: &[u8]) -> Result<Self, NodeError> {
        let mut node: Value = serde_json::from_slice(json)?;
        let object = node.as_object_mut().ok_or(NodeError::Shape("root"))?;
        let status = object.entry("status").or_insert_with(|| json!({}));
        let status = status.as_object_mut().ok_or(NodeError::Shape("status"))?;
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        if conditions.is_null() {
            *conditions = json!([]);
        }
        conditions.as_array().ok_or(NodeError::Shape("status.conditions"))?;
        Ok(Self(node))
    }

    /// Returns the object to send.
    pub fn to_json(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// Sets the verdicts' conditions if at least one must be written: because it differs, or because its last
    /// heartbeat was before `oldest`. All get a new heartbeat then, because one write costs the same for all.
    ///
    /// Returns whether the Node changed.
    pub fn update(&mut self, wanted: &Verdicts, oldest: Timestamp, now: Timestamp) -> bool {
        let up_to_date = wanted.iter().all(|(condition_type, verdict)| {
            self.condition(condition_type).is_some_and(|condition| {
                let heartbeat = heartbeat(condition);
                says(condition, verdict) && heartbeat.is_some_and(|at| at >= oldest && at <= now)
            })
        });
        if !up_to_date {
            for (condition_type, verdict) in wanted {
                self.set(condition_type, verdict, now);
            }
        }
        !up_to_date
    }

    /// Returns the age of the condition's heartbeat; none if it has none or one in the future.
    pub fn heartbeat_age(&self, condition_type: &str, now: Timestamp) -> Option<Duration> {
        now.duration_since(heartbeat(self.condition(condition_type)?)?).try_into().ok()
    }

    fn conditions(&self) -> &[Value] {
        self.0["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
    }

    fn condition(&self, condition_type: &str) -> Option<&Value> {
        self.conditions().iter().find(|condition| condition["type"] == condition_type)
    }

    /// Sets one condition. `lastTransitionTime` stays while the status stays.
    fn set(&mut self, condition_type: &str, verdict: &Verdict, now: Timestamp) {
        let now = whole_seconds(now).to_string();
        let since = self
            .condition(condition_type)
            .filter(|condition| condition["status"] == verdict.status())
            .and_then(|condition| condition["lastTransitionTime"].as_str())
            .map_or_else(|| now.clone(), str::to_owned);
        let condition = json!({
            "type": condition_type,
            "status": verdict.status(),
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
            "reason": verdict.reason(),
            "message": verdict.message(),
        });
        let Some(conditions) = self.0["status"]["conditions"].as_array_mut() else { return };
        match conditions.iter_mut().find(|condition| condition["type"] == condition_type) {
            Some(place) => *place = condition,
            None => conditions.push(condition),
        }
    }
}

/// Returns the time in whole seconds, as Kubernetes stores it.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn says(condition: &Value, verdict: &Verdict) -> bool {
    condition["status"] == verdict.status()
        && condition["reason"] == verdict.reason()
        && condition["message"] == verdict.message()
}

fn heartbeat(condition: &Value) -> Option<Timestamp> {
    condition["lastHeartbeatTime"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use crate::{
        probe::Outcome,
        threshold::{ThresholdCounter, Thresholds},
    };

    fn verdict(healthy: bool, message: &str) -> Verdict {
        let outcome = Outcome { healthy, reason: "Reason", message: message.to_owned() };
        ThresholdCounter::new(Thresholds { success: 1, failure: 1 }).observe(outcome).unwrap()
    }

    fn wanted(list: &[(&str, bool, &str)]) -> Verdicts {
        list.iter()
            .map(|(name, healthy, message)| ((*name).to_owned(), verdict(*healthy, message)))
            .collect()
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}Z").parse().unwrap()
    }

    /// The oldest heartbeat that is still fresh then.
    fn fresh(time: &str) -> Timestamp {
        at(time) - Duration::from_secs(270)
    }

    fn node(conditions: &Value) -> Node {
        let node = json!({
            "kind": "Node", "metadata": {"name": "a", "resourceVersion": "7"},
            "spec": {"fromTheFuture": {"deep": [1, 2.5, null]}},
            "status": {"alsoNew": true, "conditions": conditions},
        });
        Node::from_json(node.to_string().as_bytes()).unwrap()
    }

    fn existing(status: &str, message: &str, heartbeat: &str) -> Value {
        json!({
            "type": "a", "status": status, "reason": "Reason", "message": message,
            "lastHeartbeatTime": at(heartbeat).to_string(),
            "lastTransitionTime": at("00:00:00").to_string(),
        })
    }

    #[test]
    fn an_equal_and_fresh_condition_is_left_alone() {
        let mut node = node(&json!([existing("True", "m", "10:00:00")]));
        let before = node.clone();
        assert!(!node.update(&wanted(&[("a", true, "m")]), fresh("10:04:29"), at("10:04:29")));
        assert_eq!(node, before);
    }

    #[test]
    fn an_old_heartbeat_is_renewed_and_the_transition_kept() {
        let mut node = node(&json!([existing("True", "m", "10:00:00")]));
        assert!(node.update(&wanted(&[("a", true, "m")]), fresh("10:04:30.5"), at("10:04:30.5")));
        let condition = node.condition("a").unwrap();
        assert_eq!(condition["lastHeartbeatTime"], "2026-01-01T10:04:30Z");
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_heartbeat_from_the_future_is_not_trusted() {
        let mut node = node(&json!([existing("True", "m", "11:00:00")]));
        assert!(node.update(&wanted(&[("a", true, "m")]), fresh("10:00:00"), at("10:00:00")));
    }

    #[test]
    fn another_status_is_a_transition_and_another_message_is_not() {
        let original = node(&json!([existing("True", "m", "10:00:00")]));
        let mut changed = original.clone();
        assert!(changed.update(&wanted(&[("a", true, "n")]), fresh("10:00:01"), at("10:00:01")));
        let condition = changed.condition("a").unwrap();
        assert_eq!(condition["message"], "n");
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let mut changed = original;
        assert!(changed.update(&wanted(&[("a", false, "n")]), fresh("10:00:01"), at("10:00:01")));
        let condition = changed.condition("a").unwrap();
        assert_eq!(condition["status"], "False");
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T10:00:01Z");
    }

    #[test]
    fn foreign_fields_are_kept_verbatim() {
        let foreign =
            json!({"type": "Ready", "status": "True", "observedGeneration": 3, "new": {}});
        let mut node = node(&json!([foreign]));
        let verdicts = wanted(&[("a", true, "m"), ("b", false, "n")]);
        assert!(node.update(&verdicts, fresh("10:00:00"), at("10:00:00")));
        let sent: Value = serde_json::from_slice(&node.to_json()).unwrap();
        assert_eq!(sent["spec"], json!({"fromTheFuture": {"deep": [1, 2.5, null]}}));
        assert_eq!(sent["metadata"]["resourceVersion"], "7");
        assert_eq!(sent["status"]["alsoNew"], true);
        assert_eq!(sent["status"]["conditions"][0], foreign);
        assert_eq!(sent["status"]["conditions"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_node_without_conditions_gets_the_first_one() {
        for text in [r#"{"kind":"Node"}"#, r#"{"status":{"conditions":null}}"#] {
            let mut node = Node::from_json(text.as_bytes()).unwrap();
            assert!(node.update(&wanted(&[("a", true, "m")]), fresh("10:00:00"), at("10:00:00")));
            assert_eq!(node.condition("a").unwrap()["status"], "True");
        }
    }

    #[test]
    fn something_else_is_refused() {
        for text in ["", "[]", r#"{"status":1}"#, r#"{"status":{"conditions":{}}}"#] {
            assert!(Node::from_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
