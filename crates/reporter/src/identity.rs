//! The identity of requests about the Node.

use http::request;

/// Names the user to impersonate (KEP-5284).
const IMPERSONATE_USER: &str = "Impersonate-User";

/// As whom the reporter reads and writes its Node. It follows its configuration as its ServiceAccount in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The ServiceAccount, which then needs permissions on every node.
    ServiceAccount,
    /// The Node with this name. Only the user is impersonated: the API server adds a node's groups itself, and refuses
    /// a node together with groups, uid or extra.
    Node(String),
}

impl Identity {
    /// Adds the identity to a request.
    pub(crate) fn sign(&self, request: request::Builder) -> request::Builder {
        match self {
            Self::ServiceAccount => request,
            Self::Node(name) => request.header(IMPERSONATE_USER, format!("system:node:{name}")),
        }
    }
}
