//! Leader election with one Lease (coordination.k8s.io/v1): only the leader writes.

mod election;
mod leadership;

pub use election::Lost;
pub(crate) use election::{Election, pod_namespace};
#[cfg(test)]
pub(crate) use leadership::Claim;
pub(crate) use leadership::{Leadership, NotWritten};
