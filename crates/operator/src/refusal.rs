//! What the API server means by a refusal.

use kube::core::Status;

/// Whether a write was refused only because the object had changed since it was read. The watch
/// brings it as it is now.
///
/// A test in a JSON Patch that fails and an object that would be invalid are both answered by 422;
/// only the latter says what is wrong.
pub(crate) fn is_stale(status: &Status) -> bool {
    let has_causes = status.details.as_ref().is_some_and(|details| !details.causes.is_empty());
    status.code == 409 || (status.code == 422 && !has_causes)
}
