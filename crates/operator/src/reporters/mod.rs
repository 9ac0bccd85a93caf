//! Reporters in the cluster: the objects of reporter sets, and the guard policies that limit writes made as a node.

mod applied_objects;
mod applier;
mod apply;
mod controller;
mod creation_failures;
mod decision;
mod error;
mod guard;
pub(crate) mod impersonation;
mod migration;
mod ownership;
mod propagation;
mod retries;
mod states;

pub(crate) use applier::Applier;
pub(crate) use controller::{ReporterController, Triggers};
pub(crate) use creation_failures::{CreationFailures, REFRESH};
pub(crate) use guard::{Guard, PolicyController};
pub(crate) use states::ReporterStates;
