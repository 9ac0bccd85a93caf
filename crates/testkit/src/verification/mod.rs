//! Tests of what a reporter's token permits on a real API server. They use the cluster's own kubectl and the token,
//! like an attacker.
//!
//! [`verify`] tries all rows of the [`matrix`]. A test that needs more, such as the token of a deleted pod, opens a
//! [`Session`] and performs an [`Action`] as an [`Identity`]. The expected answer is data next to the actual one, so a
//! table can show both. Only an answer of the API server counts as a refusal. Every other failure is an error.

mod answer;
mod changes;
mod kubeconfig;
mod matrix;
mod row;
mod scene;
mod session;
mod setting;

use std::fmt;

pub use answer::Answer;
pub use matrix::matrix;
pub use row::{By, Cell, Row, Section};
pub use scene::Scene;
pub use session::{Action, Identity, Session, Update};
pub use setting::{Access, Guard, Setting};

use crate::{
    error::{Error, Result},
    kubectl::Kubectl,
    layout::Layout,
};

/// A running reporter.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The namespace of its pod and ServiceAccount.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Its pod.
    pub pod: String,
    /// The node that the pod runs on.
    pub node: String,
    /// The type of the node condition that it writes.
    pub condition_type: String,
}

impl Reporter {
    /// Finds the running pod of a ServiceAccount on a node.
    ///
    /// # Errors
    /// When the API server does not answer, or no such pod runs.
    pub fn on_node(
        layout: &Layout,
        namespace: &str,
        service_account: &str,
        node: &str,
        condition_type: &str,
    ) -> Result<Self> {
        let selector = format!("spec.nodeName={node},status.phase=Running");
        let template = format!(
            "jsonpath={{.items[?(@.spec.serviceAccountName==\"{service_account}\")].metadata.name}}"
        );
        let pods = Kubectl::new(layout).run(&[
            "--namespace",
            namespace,
            "get",
            "pods",
            "--field-selector",
            &selector,
            "--output",
            &template,
        ])?;
        let pod = pods.split_whitespace().next().ok_or_else(|| Error::NoReporter {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            node: node.to_owned(),
        })?;
        Ok(Self {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            pod: pod.to_owned(),
            node: node.to_owned(),
            condition_type: condition_type.to_owned(),
        })
    }
}

/// The expected answer of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The request is allowed.
    Allowed,
    /// The request is allowed, and the change is ignored.
    Ignored,
    /// The request is refused with a message that contains this text. A refusal for another reason proves nothing.
    Refused(String),
}

impl Expected {
    /// Returns whether this is the answer.
    pub fn is(&self, answer: &Answer) -> bool {
        match (self, answer) {
            (Self::Allowed, Answer::Allowed) | (Self::Ignored, Answer::Ignored) => true,
            (Self::Refused(because), Answer::Refused(message)) => message.contains(because),
            _ => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Ignored => "no effect",
            Self::Refused(_) => "refused",
        })
    }
}

/// One attempt with its answer.
#[derive(Debug, Clone)]
pub struct Check {
    /// Its subject: the title of a section of the matrix.
    pub section: &'static str,
    /// The attempt, in words.
    pub what: &'static str,
    /// The expected answer.
    pub expected: Expected,
    /// The actual answer.
    pub seen: Answer,
}

impl Check {
    /// Returns whether the answer is the expected one.
    pub fn holds(&self) -> bool {
        self.expected.is(&self.seen)
    }
}

/// Tries every row of the matrix with a new token that is bound to the reporter's pod. Changes that must be refused
/// are dry runs, so a change that passes does no damage.
///
/// # Errors
///
/// When the API server issues no token, or neither allows nor refuses a request.
pub fn verify(layout: &Layout, reporter: &Reporter, scene: &Scene) -> Result<Vec<Check>> {
    scene.check(layout)?;
    let bound = Session::bound(layout, reporter)?;
    let unbound = Session::unbound(layout, reporter)?;
    let rows =
        matrix().iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)));
    rows.filter(|(_, row)| !row.needs_another_rule || scene.other_rules_condition.is_some())
        .filter(|(_, row)| !row.needs_generated || scene.generated)
        .map(|(section, row)| {
            let session = if row.who == row::Who::Unbound { &unbound } else { &bound };
            Ok(Check {
                section: section.title,
                what: row.what,
                expected: scene.expected(row),
                seen: scene.attempt(row, session)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_another_reason_is_not_the_expected_one() {
        let expected = Expected::Refused("impersonate-on:arbitrary-node:get".to_owned());
        let refused = |message: &str| Answer::Refused(message.to_owned());
        assert!(expected.is(&refused("cannot impersonate-on:arbitrary-node:get resource")));
        assert!(!expected.is(&refused("cannot get resource \"nodes\"")));
        assert!(!expected.is(&Answer::Allowed));
        assert!(Expected::Allowed.is(&Answer::Allowed));
        assert!(!Expected::Allowed.is(&refused("")));
        assert!(!Expected::Allowed.is(&Answer::Ignored));
        assert!(Expected::Ignored.is(&Answer::Ignored));
    }
}
