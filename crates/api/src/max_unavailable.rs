//! The schema of a rule's `maxUnavailable`.
//!
//! The Rust type is Kubernetes' own `IntOrString`, whose generated schema accepts any text.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of a number from 0, or a percentage from `0%` to `100%`.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "How many nodes at most may be held because they regressed: a number, or a percentage of the \
            nodes that the rule covers, rounded up. A node that the rule had released and whose conditions are no longer \
            met gets the taint only while there is room, so that one bad probe cannot take the cluster down. Nodes that \
            were never ready are always held. Without it there is no limit.",
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": 4,
        "x-kubernetes-validations": [{
            "rule": "type(self) == int ? self >= 0 && self <= 2147483647 : self.matches('^(100|[0-9]{1,2})%$')",
            "message": "maxUnavailable must be a number from 0 to 2147483647, or a percentage such as 20%",
        }],
    })
}
