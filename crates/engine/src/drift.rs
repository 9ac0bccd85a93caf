//! The difference between an object in the cluster and the generated one.

use serde_json::Value;

use crate::quantity;

/// Members that hold quantities by resource.
const QUANTITIES: [&str; 2] = ["limits", "requests"];

/// Returns the fields in which `live` differs from `wanted`, as field paths with the live value.
///
/// A list with more or fewer items is one difference. See [`contains`] for what counts.
pub fn differences(live: &Value, wanted: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(live, wanted, "", &mut found);
    found
}

fn collect(live: &Value, wanted: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if contains(live, wanted) {
        return;
    }
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match live.get(key) {
                    // Quantities are compared by amount, which depends on their parent member.
                    Some(live) if QUANTITIES.contains(&key.as_str()) => {
                        if !has_amounts(live, wanted) {
                            found.push((path, live.clone()));
                        }
                    }
                    Some(live) => collect(live, wanted, &path, found),
                    None if is_empty(wanted) => {}
                    None => found.push((path, Value::Null)),
                }
            }
        }
        (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => {
            for (index, (live, wanted)) in live.iter().zip(wanted).enumerate() {
                collect(live, wanted, &format!("{path}[{index}]"), found);
            }
        }
        (live, _) => found.push((path.to_owned(), live.clone())),
    }
}

/// Returns whether `live` has all fields of `wanted`. Fields that the API server or others added do not count.
/// Lists must be equal item by item, and quantities must be the same amount.
///
/// This check does not find a field that is no longer generated. In that case the digest annotation of the
/// generated object differs.
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

/// Returns whether `live` has these quantities. The API server adds requests for limits.
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

/// Returns whether the API server omits this value.
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
    fn each_difference_has_its_path_and_live_value() {
        let wanted = json!({"spec": {"image": "a", "args": ["x"], "env": [{"name": "A", "value": "1"}],
            "resources": {"requests": {"cpu": "5m"}}, "gone": 1, "same": 2}});
        let live = json!({"spec": {"image": "b", "args": ["x", "y"], "env": [{"name": "A", "value": "2"}],
            "resources": {"requests": {"cpu": "1"}}, "same": 2, "more": 3}});
        let found = differences(&live, &wanted);
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        let expected = [
            "spec.args",
            "spec.env[0].value",
            "spec.gone",
            "spec.image",
            "spec.resources.requests",
        ];
        assert_eq!(paths, expected);
        assert_eq!(found[3].1, "b");
        assert!(differences(&live, &json!({"spec": {"same": 2}})).is_empty());
    }

    #[test]
    fn additions_by_others_are_no_drift() {
        let live = json!({"a": {"b": 1, "defaulted": true}, "list": [{"x": 1, "y": 2}]});
        assert!(contains(&live, &json!({"a": {"b": 1}, "list": [{"x": 1}]})));
    }

    #[test]
    fn omissions_by_the_api_server_are_no_drift() {
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
