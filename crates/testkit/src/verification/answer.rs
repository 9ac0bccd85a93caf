//! Reads from kubectl's output whether the API server allowed or refused a request.

use std::fmt;

/// kubectl's prefix for 403 Forbidden.
const FORBIDDEN: &str = "Error from server (Forbidden): ";
/// kubectl's prefix for 401 Unauthorized, for example for the token of a deleted pod.
const UNAUTHORIZED: &str = "error: You must be logged in to the server";
/// kubectl's prefix for a conflict.
const CONFLICT: &str = "Error from server (Conflict): ";

/// The API server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request was allowed.
    Allowed,
    /// The request was allowed, and the change was ignored.
    Ignored,
    /// The request was refused because of a missing permission or an invalid token; the server's message.
    Refused(String),
}

impl fmt::Display for Answer {
    /// Describes the answer in a few words. For a refusal it shows the missing permission instead of the server's
    /// long message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Ignored => f.write_str("no effect"),
            Self::Refused(message) => write!(f, "refused: {}", reason(message)),
        }
    }
}

/// An answer for a client that may retry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The request was allowed; the server's answer.
    Done(String),
    /// It was refused; the server's message.
    Refused(String),
    /// A conflict with another writer.
    Conflict,
}

/// Parses the output of a kubectl command with one request. Returns `None` if it failed for another reason than a
/// refusal or a conflict.
pub(super) fn read(success: bool, stdout: &str, stderr: &str) -> Option<Reply> {
    if success {
        return Some(Reply::Done(stdout.to_owned()));
    }
    // Warnings may come first.
    stderr.lines().find_map(|line| {
        if let Some(message) = line.strip_prefix(FORBIDDEN) {
            Some(Reply::Refused(message.to_owned()))
        } else if line.starts_with(UNAUTHORIZED) {
            Some(Reply::Refused("Unauthorized".to_owned()))
        } else {
            line.starts_with(CONFLICT).then_some(Reply::Conflict)
        }
    })
}

/// Returns the refused action in the server's message, without user and scope: `cannot get resource "nodes"`, `is not
/// allowed to modify taints`, or the message of a policy.
fn reason(message: &str) -> &str {
    if let Some((_, says)) = message.split_once(" denied request: ") {
        return says;
    }
    let start = ["cannot ", "is not allowed to "]
        .iter()
        .filter_map(|verb| message.find(verb))
        .min()
        .unwrap_or_default();
    let reason = &message[start..];
    reason.find(" in API group ").map_or(reason, |end| &reason[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "nodes \"node-b\" is forbidden: User \"system:serviceaccount:ns:sa\" \
        cannot get resource \"nodes\" in API group \"\" at the cluster scope";

    #[test]
    fn only_the_servers_refusal_counts_as_a_refusal() {
        let refused = format!("Warning: something\nError from server (Forbidden): {REFUSED}\n");
        assert_eq!(read(false, "", &refused), Some(Reply::Refused(REFUSED.to_owned())));
        let gone = "error: You must be logged in to the server (Unauthorized)";
        assert_eq!(read(false, "", gone), Some(Reply::Refused("Unauthorized".to_owned())));
        for other in [
            "error: unknown flag: --as-nobody",
            "Error from server (NotFound): nodes \"node-c\" not found",
            "Error from server (BadRequest): Forbidden",
            "Unable to connect to the server: dial tcp 127.0.0.1:443: connection refused",
            "",
        ] {
            assert_eq!(read(false, "", other), None, "{other}");
        }
    }

    #[test]
    fn a_conflict_is_neither_allowed_nor_refused() {
        let conflict = "Error from server (Conflict): Operation cannot be fulfilled on nodes";
        assert_eq!(read(false, "", conflict), Some(Reply::Conflict));
        assert_eq!(read(true, "{}", ""), Some(Reply::Done("{}".to_owned())));
    }

    #[test]
    fn a_refusal_is_shown_by_the_permission_that_is_missing() {
        assert_eq!(
            Answer::Refused(REFUSED.to_owned()).to_string(),
            "refused: cannot get resource \"nodes\""
        );
        assert_eq!(Answer::Refused("Unauthorized".to_owned()).to_string(), "refused: Unauthorized");
        let denied = "nodes \"node-a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' \
            denied request: a node may not do that";
        assert_eq!(
            Answer::Refused(denied.to_owned()).to_string(),
            "refused: a node may not do that"
        );
    }
}
