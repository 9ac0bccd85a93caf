//! Reporters in the cluster: their objects, and the guard policies that limit writes made as a node.

mod applied_objects;
mod applier;
pub(crate) mod apply;
mod apply_backoff;
mod creation_failures;
mod error;
mod guard;
pub(crate) mod impersonation;
mod manager;
mod ownership;
mod propagation;

pub(crate) use applier::Applier;
pub(crate) use apply_backoff::Wait;
pub(crate) use creation_failures::REFRESH;
pub use error::ApplyError;
pub(crate) use guard::{Guard, GuardState, PolicyController};
pub(crate) use manager::ReporterManager;
