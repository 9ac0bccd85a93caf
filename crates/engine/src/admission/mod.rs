//! The policies (`ValidatingAdmissionPolicy`) that the operator generates.
//!
//! RBAC decides who may update the status of a Node. These policies decide what may change. There are two
//! families: [`guard`], once for the cluster, for every client that acts as a node, and [`own_conditions`], once
//! for each rule whose reporters act as their ServiceAccount.
//!
//! This module only generates policies. The operator applies them before the permissions that they limit, and
//! deletes them after these permissions.

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

/// A policy with its binding, under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundPolicy {
    /// The policy.
    pub policy: ValidatingAdmissionPolicy,
    /// The binding that puts it in force.
    pub binding: ValidatingAdmissionPolicyBinding,
}

/// What distinguishes one [`BoundPolicy`] from another.
struct Terms {
    operations: &'static [&'static str],
    /// Names and expressions that select the requests to check.
    whose: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
    /// Expressions, each with the message for requests that fail it.
    validations: Vec<(String, String)>,
}

impl Terms {
    /// Makes a policy for nodes and their status. It refuses requests that it cannot evaluate.
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

/// Returns the metadata of an object that belongs to the operator.
fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
        ..ObjectMeta::default()
    }
}
