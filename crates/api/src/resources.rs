//! The requests and limits of a reporter's container.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Resources, as in a Pod's container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ReporterResources {
    /// The requests, by resource.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient_quantities"
    )]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,

    /// The limits, by resource.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient_quantities"
    )]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// The schema of quantities by resource. It accepts any value: in a Pod the API server accepts numbers without
/// quotes, including fractions, and no schema type permits them (`int-or-string` refuses `0.05`).
fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
    })
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a quantity, such as 50m, 0.05 or 64Mi")]
enum Amount {
    Text(String),
    Number(serde_json::Number),
}

fn lenient_quantities<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Quantity>, D::Error> {
    let amounts: BTreeMap<String, Amount> = BTreeMap::deserialize(deserializer)?;
    let quantity = |amount| match amount {
        Amount::Text(text) => Quantity(text),
        Amount::Number(number) => Quantity(number.to_string()),
    };
    Ok(amounts.into_iter().map(|(resource, amount)| (resource, quantity(amount))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_need_no_quotes() {
        let read =
            |cpu| serde_json::from_value::<ReporterResources>(json!({"requests": {"cpu": cpu}}));
        for (written, quantity) in
            [(json!(0.05), "0.05"), (json!(1), "1"), (json!("1000m"), "1000m")]
        {
            assert_eq!(read(written).unwrap().requests["cpu"].0, quantity);
        }
        let refused = read(json!({"a": 1})).unwrap_err().to_string();
        assert!(refused.contains("a quantity, such as 50m"), "{refused}");
    }
}
