//! The `NodeReadinessRule` API: its types, the names that the project writes into a cluster, and the contract
//! between operator and reporter.
//!
//! This crate has only values: no client, no async runtime and no clock. So every other crate can depend on it,
//! and the CRD can be generated from it.

mod crd;
pub mod host_path;
mod max_unavailable;
mod names;
mod ownership;
mod probe;
mod reporter_config;
mod requirements;
mod resources;
mod rule;
mod selector;
mod status;

pub use crd::crd;
pub use names::*;
pub use ownership::{Claim, ClaimState, Claims, HoldCause};
pub use probe::{
    BODY_PATTERN_MEMORY, ExecAction, FileAction, GrpcAction, Handler, HttpGetAction, HttpHeader,
    Probe, ProbeAddress, Scheme, TcpSocketAction, UnixSocketAction, is_host, single_stars,
};
pub use reporter_config::{ReporterConfig, RuleProbes};
pub use requirements::{HoldTimeout, HoldTimeoutAction, PodRequirement, ResourceRequirement};
pub use resources::ReporterResources;
pub use rule::{
    AfterReboot, ConditionPolicy, ConditionRequirement, ConditionStatus, EnforcementMode,
    NodeReadinessRule, NodeReadinessRuleSpec, ReporterAccess, ReporterOptions, RuleTaint,
    TaintEffect,
};
pub use status::{
    ConditionEvaluation, DryRunResults, NodeCounts, NodeEvaluation, NodeFailure,
    NodeReadinessRuleStatus, ReporterStatus, RequirementEvaluation, TaintPresence,
};
