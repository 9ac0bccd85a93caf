//! The schemas of a rule's label selectors.
//!
//! The Rust type is Kubernetes' own `LabelSelector`, whose generated schema checks little. This schema refuses
//! selectors that cannot be evaluated.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A label's value, and the name of its key: Kubernetes' own pattern (`labelValueFmt` and `qualifiedNameFmt` in
/// apimachinery's validation).
const VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// A label's key: a name of at most 63 characters, with an optional DNS subdomain and slash before it.
const KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$";

/// The schema of a rule's node selector.
pub(crate) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    not_empty(
        "Selects the nodes that the rule covers, by their labels. It must not be empty; to cover every node, use an \
         expression that always holds, such as kubernetes.io/os Exists.",
        "nodeSelector must not be empty; to cover every node, use matchExpressions with kubernetes.io/os Exists",
    )
}

/// The schema of a selector of pods.
pub(crate) fn pod_selector(_: &mut SchemaGenerator) -> Schema {
    not_empty(
        "Selects the pods by their labels. It must not be empty. The requirement is met on a node with at least one \
         selected pod that is Ready and not terminating.",
        "selector must not be empty; select the agent's pods by a label, such as matchLabels with k8s-app",
    )
}

/// The schema of a `LabelSelector` that is not empty and can be evaluated.
fn not_empty(description: &str, if_empty: &str) -> Schema {
    json_schema!({
        "description": description,
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that the object must have with exactly these values.",
                "type": "object",
                "maxProperties": 64,
                "additionalProperties": {"type": "string", "maxLength": 63, "pattern": VALUE},
                "x-kubernetes-validations": [{
                    "rule": format!("self.all(key, size(key) <= 317 && key.matches('{KEY}'))"),
                    "message": "each key must be a valid label key, such as example.com/role",
                }],
            },
            "matchExpressions": {
                "description": "Requirements that the object's labels must all meet.",
                "type": "array",
                "maxItems": 64,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "Label key.", "type": "string", "minLength": 1, "maxLength": 317, "pattern": KEY},
                        "operator": {
                            "description": "How the value of the object's label relates to values.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values for In and NotIn; none for Exists and DoesNotExist.",
                            "type": "array",
                            "maxItems": 1024,
                            "items": {"type": "string", "maxLength": 63, "pattern": VALUE},
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
                        "message": "values must be given for the operators In and NotIn, and must not be for Exists and DoesNotExist",
                        "fieldPath": ".values",
                    }],
                },
            },
        },
        "x-kubernetes-validations": [{
            "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "message": if_empty,
        }],
    })
}
