//! Whether an object in the cluster is still what was generated.

use serde_json::Value;

use crate::quantity;

/// Members that hold quantities by resource.
const QUANTITIES: [&str; 2] = ["limits", "requests"];

/// Whether `live` has everything that `wanted` says. What the API server or others added beside it
/// does not matter; lists must be alike, item by item, and quantities be the same amounts.
///
/// A field that was generated once and is no more does not show here; the digest annotation on
/// each generated object differs then.
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) if QUANTITIES.contains(&key.as_str()) => has_amounts(live, wanted),
                Some(live) => contains(live, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| contains(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

/// Whether `live` has these quantities. The API server adds requests where there are limits only.
fn has_amounts(live: &Value, wanted: &Value) -> bool {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else {
        return contains(live, wanted);
    };
    wanted.iter().all(|(resource, wanted)| match (live.get(resource), wanted) {
        (Some(Value::String(live)), Value::String(wanted)) => {
            live == wanted || quantity::are_equal(live, wanted)
        }
        _ => false,
    })
}

/// Whether a value is one that the API server leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_added_is_no_drift() {
        let live = json!({"a": {"b": 1, "defaulted": true}, "list": [{"x": 1, "y": 2}]});
        assert!(contains(&live, &json!({"a": {"b": 1}, "list": [{"x": 1}]})));
    }

    #[test]
    fn what_the_api_server_leaves_out_is_no_drift() {
        let wanted = json!({"a": false, "b": [], "c": {"d": ""}, "e": 0, "f": null});
        assert!(contains(&json!({}), &wanted));
        assert!(!contains(&json!({}), &json!({"a": true})));
    }

    #[test]
    fn quantities_are_compared_by_amount_and_nothing_else_is() {
        let wanted = json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}, "args": ["1000m"]});
        let live = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "args": ["1000m"]});
        assert!(contains(&live, &wanted));
        let less = json!({"limits": {"cpu": "1"}, "args": ["1000m"]});
        assert!(!contains(&less, &wanted));
        let other = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "args": ["1"]});
        assert!(!contains(&other, &wanted));
    }

    #[test]
    fn a_changed_removed_or_added_item_is_drift() {
        let wanted = json!({"a": {"b": 1}, "list": [1, 2]});
        assert!(!contains(&json!({"a": {"b": 2}, "list": [1, 2]}), &wanted));
        assert!(!contains(&json!({"a": {}, "list": [1, 2]}), &wanted));
        assert!(!contains(&json!({"a": {"b": 1}, "list": [1, 2, 3]}), &wanted));
    }
}
