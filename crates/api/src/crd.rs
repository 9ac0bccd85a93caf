//! The CustomResourceDefinition to install.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::NodeReadinessRule;

/// Returns the CustomResourceDefinition of `NodeReadinessRule`.
///
/// It is the derived one without the formats of Rust's unsigned integers, which Kubernetes does not know and
/// would warn about, and without the `oneOf` of a probe's kinds: CEL checks the same with a better message.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = NodeReadinessRule::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            adapt(schema);
        }
    }
    crd
}

fn adapt(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.one_of = None;
    schema.properties.iter_mut().flat_map(|p| p.values_mut()).for_each(adapt);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => adapt(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            items.iter_mut().for_each(adapt);
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        adapt(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_known_to_kubernetes() {
        let json = serde_json::to_string(&crd()).unwrap();
        assert!(json.contains(r#""format":"int64""#), "the schema must have a format to check");
        assert!(!json.contains(r#""format":"uint"#), "{json}");
    }

    #[test]
    fn only_cel_checks_that_a_probe_has_one_kind() {
        let json = serde_json::to_string(&crd()).unwrap();
        assert!(json.contains("set exactly one of httpGet"), "{json}");
        assert!(!json.contains("oneOf"), "{json}");
    }

    #[test]
    fn an_optional_enum_has_the_description_of_its_field() {
        let schema = serde_json::to_value(&crd().spec.versions[0].schema).unwrap();
        let rule = &schema["openAPIV3Schema"]["properties"];
        let condition = &rule["spec"]["properties"]["conditions"]["items"];
        let found = &rule["status"]["properties"]["nodeEvaluations"]["items"]["properties"];
        for parent in [condition, &found["conditionResults"]["items"]] {
            let field = &parent["properties"]["defaultStatus"];
            let description = field["description"].as_str().unwrap();
            assert!(
                description.contains("while the node does not have the condition"),
                "{description}"
            );
            assert_eq!(field["nullable"], true);
            let required = parent["required"].as_array().unwrap();
            assert!(!required.contains(&"defaultStatus".into()), "{required:?}");
        }
    }

    #[test]
    fn columns_have_their_documented_names() {
        let columns = crd().spec.versions[0].additional_printer_columns.clone().unwrap();
        let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
        let (narrow, wide) = names.split_at(8);
        assert_eq!(narrow, ["Mode", "Taint", "Effect", "Nodes", "Ready", "Held", "DryRun", "Age"]);
        assert_eq!(wide, ["InEffect", "Reason", "NodesReady", "NodesReason"]);
        assert!(columns[8..].iter().all(|column| column.priority == Some(1)));
    }
}
