//! Signals: what a rule can require of a node besides conditions.
//!
//! The operator observes them in other objects than the Node: pods, `CSINodes` and `ResourceSlices`. It watches only
//! what rules require.

mod by_node;
mod objects;
mod observed;
mod requirement;

pub use objects::{CsiNode, Fact, ResourceSlice, SignalObject, SignalPod};
pub(crate) use observed::PodContainers;
pub use observed::{Changed, SignalEvent, Signals};
pub use requirement::{PodSource, Signal, Source};
