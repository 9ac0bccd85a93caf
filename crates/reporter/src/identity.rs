//! The identity of requests about the Node.

use http::{HeaderValue, request};

/// Names the user to impersonate (KEP-5284).
const IMPERSONATE_USER: &str = "Impersonate-User";

/// As whom the reporter reads and writes its Node. It follows its configuration as its ServiceAccount in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The ServiceAccount, which then needs permissions on every node.
    ServiceAccount,
    /// The Node itself. Only the user is impersonated: the API server adds a node's groups itself, and refuses a node
    /// together with groups, uid or extra.
    Node(HeaderValue),
}

impl Identity {
    /// Returns the identity of the Node with this name, which is a DNS subdomain, or the ServiceAccount if the value
    /// is no header.
    pub fn node(name: &str) -> Self {
        let user = HeaderValue::try_from(format!("system:node:{name}"));
        user.map_or(Self::ServiceAccount, Self::Node)
    }

    /// Adds the identity to a request.
    pub(crate) fn sign(&self, request: request::Builder) -> request::Builder {
        match self {
            Self::ServiceAccount => request,
            Self::Node(user) => request.header(IMPERSONATE_USER, user),
        }
    }
}
