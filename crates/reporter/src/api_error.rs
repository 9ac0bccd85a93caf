//! Why a request to the API server failed, with the remedy.

use std::{error::Error, fmt::Write as _, time::Duration};

use http::{HeaderMap, StatusCode, header};
use kube::core::Status;

use crate::node::NodeError;

/// The maximum length of a refusal in the log, in characters.
const REFUSAL_LIMIT: usize = 512;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server refused it.
    #[error("the API server answered {code}: {message}{}", hint(*code, message))]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The server's message.
        message: String,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no complete answer in time, so the request may have been applied.
    #[error("the API server did not answer within {0:?}")]
    Deadline(Duration),
    /// The API server could not be reached, or the connection broke.
    #[error("the API server cannot be reached: {0}")]
    Transport(String),
    /// The answer is invalid.
    #[error("the API server's answer is {0}")]
    Answer(#[from] NodeError),
}

impl ApiError {
    /// Parses a refusal. The body is a `Status`, or text from a proxy or the server's overload protection.
    pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let message = serde_json::from_slice::<Status>(body)
            .map(|status| status.message)
            .ok()
            .filter(|message| !message.is_empty())
            .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        Self::Refused {
            code: status.as_u16(),
            message: one_line(&message),
            retry_after: headers
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs),
        }
    }

    /// Returns a broken connection, with its causes in one line.
    pub(crate) fn transport(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                let _ = write!(text, ": {cause_text}");
            }
            source = cause.source();
        }
        Self::Transport(text)
    }

    /// Returns whether somebody else wrote the Node between the read and the write.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == StatusCode::CONFLICT.as_u16())
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                code: status.code,
                message: one_line(&status.message),
                retry_after: status
                    .details
                    .map(|details| details.retry_after_seconds.into())
                    .filter(|&seconds| seconds > 0)
                    .map(Duration::from_secs),
            },
            error => Self::transport(&error),
        }
    }
}

fn one_line(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    message.chars().take(REFUSAL_LIMIT).collect()
}

/// Returns the remedy for a refusal whose message has none.
fn hint(code: u16, message: &str) -> &'static str {
    if code == 401 {
        return "; the ServiceAccount's token was not accepted: is the pod being deleted?";
    }
    if code == 404 {
        return "; the node has not registered yet, or NODE_NAME is not its name";
    }
    if code != 403 {
        return "";
    }
    if message.contains("configmaps") {
        return "; bind a Role to the ServiceAccount that permits it to watch this ConfigMap";
    }
    if message.contains("cannot impersonate resource \"users\"") {
        "; this cluster has no constrained impersonation (KEP-5284): it takes Kubernetes 1.36, or \
         1.35 with the feature gate ConstrainedImpersonation"
    } else if message.contains("impersonate-on:arbitrary-node")
        || message.contains("impersonate:arbitrary-node")
    {
        "; the token is not bound to a pod on this node: NODE_NAME must be the pod's own \
         spec.nodeName, and the token the one that kubelet mounts"
    } else if message.contains("impersonate") {
        "; bind two ClusterRoles to the ServiceAccount: impersonate:associated-node on nodes of \
         authentication.k8s.io, and impersonate-on:associated-node:get and :watch on nodes with \
         impersonate-on:associated-node:update on nodes/status"
    } else {
        "; the reporter needs get on nodes and update on nodes/status, for itself or, with \
         impersonation, for its node, and no admission policy against the conditions it writes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, body: &str, headers: &HeaderMap) -> ApiError {
        ApiError::refusal(StatusCode::from_u16(code).unwrap_or_default(), headers, body.as_bytes())
    }

    #[test]
    fn a_refusal_is_read_from_status_or_text() {
        let status = r#"{"kind":"Status","message":"node \"a\" is\nbusy","code":409}"#;
        let error = refused(409, status, &HeaderMap::new());
        assert!(error.is_conflict());
        assert_eq!(error.to_string(), "the API server answered 409: node \"a\" is busy");
        let error = refused(502, "<html>\n bad gateway", &HeaderMap::new());
        assert_eq!(error.to_string(), "the API server answered 502: <html> bad gateway");
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
        let error = refused(429, "Too many requests", &headers);
        assert!(matches!(
            error,
            ApiError::Refused { retry_after: Some(wait), .. } if wait == Duration::from_secs(7)
        ));
    }

    #[test]
    fn each_kind_of_forbidden_has_its_remedy() {
        for (message, remedy) in [
            ("User \"s\" cannot impersonate resource \"users\" in API group \"\"", "KEP-5284"),
            ("cannot impersonate-on:arbitrary-node:get resource \"nodes\"", "spec.nodeName"),
            ("cannot impersonate-on:associated-node:update", "ClusterRoles"),
            ("User \"s\" cannot get resource \"nodes\"", "get on nodes"),
            ("User \"s\" cannot watch resource \"configmaps\" in API group \"\"", "bind a Role"),
        ] {
            let text = refused(403, message, &HeaderMap::new()).to_string();
            assert!(text.contains(remedy), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}
