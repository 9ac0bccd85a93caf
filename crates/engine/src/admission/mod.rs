//! The policies (`ValidatingAdmissionPolicy`) that the operator generates.
//!
//! RBAC says who may update the status of a Node; what of it may change is said here. There are two
//! families: [`guard`], once for the cluster, for whoever acts as a node, and [`own_conditions`], once
//! for each rule whose reporters act as their ServiceAccount.
//!
//! Only policies are made here. That one is in force before what it limits may act, and as long as it
//! may, is a matter of order, and the operator's.

mod expressions;
mod guard;
mod own_conditions;

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use node_readiness_api::{MANAGED_BY, MANAGED_BY_LABEL};

pub use guard::{Strength, guard};
pub use own_conditions::own_conditions;

/// A policy and the binding that puts it in force, under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundPolicy {
    /// What is checked.
    pub policy: ValidatingAdmissionPolicy,
    /// That it is checked.
    pub binding: ValidatingAdmissionPolicyBinding,
}

/// What makes one [`BoundPolicy`] differ from another.
struct Terms {
    operations: &'static [&'static str],
    /// Names and expressions: whose requests are checked.
    whose: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
    /// Expressions, and what to tell whose request does not meet them.
    validations: Vec<(String, String)>,
}

impl Terms {
    /// The guard of a Node and its status on these terms. What cannot be evaluated is refused.
    fn bind(self, metadata: ObjectMeta) -> BoundPolicy {
        let Self { operations, whose, variables, validations } = self;
        let nodes = NamedRuleWithOperations {
            api_groups: Some(vec![String::new()]),
            api_versions: Some(vec!["v1".to_owned()]),
            resources: Some(vec!["nodes".to_owned(), "nodes/status".to_owned()]),
            operations: Some(operations.iter().map(|&operation| operation.to_owned()).collect()),
            ..NamedRuleWithOperations::default()
        };
        let whose = whose
            .into_iter()
            .map(|(name, expression)| MatchCondition { name: name.to_owned(), expression });
        let variables = variables
            .into_iter()
            .map(|(name, expression)| Variable { name: name.to_owned(), expression });
        let validations = validations.into_iter().map(|(expression, message)| Validation {
            expression,
            message: Some(message),
            reason: Some("Forbidden".to_owned()),
            ..Validation::default()
        });
        let spec = ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(MatchResources {
                resource_rules: Some(vec![nodes]),
                ..MatchResources::default()
            }),
            match_conditions: Some(whose.collect()),
            variables: Some(variables.collect()),
            validations: Some(validations.collect()),
            ..ValidatingAdmissionPolicySpec::default()
        };
        let binding = ValidatingAdmissionPolicyBindingSpec {
            policy_name: metadata.name.clone().unwrap_or_default(),
            validation_actions: vec!["Deny".to_owned()],
            ..ValidatingAdmissionPolicyBindingSpec::default()
        };
        BoundPolicy {
            policy: ValidatingAdmissionPolicy {
                metadata: metadata.clone(),
                spec: Some(spec),
                status: None,
            },
            binding: ValidatingAdmissionPolicyBinding { metadata, spec: binding },
        }
    }
}

/// Metadata of what the operator generates for itself.
fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
        ..ObjectMeta::default()
    }
}
