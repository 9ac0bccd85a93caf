//! What a reporter's token opens, tried on a real API server the way a thief would: with the
//! cluster's own kubectl, the token, and nothing else.
//!
//! [`verify`] tries all rows of the [`matrix`]; a test that needs more, such as a token whose pod is
//! gone, opens a [`Session`] and performs an [`Action`] as an [`Identity`]. What the answer should
//! have been is data beside the answer, so that a table can show both. It judges answers of the
//! API server only: whatever fails for another reason is an error, never a refusal.

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

/// A reporter that runs, and what it is for.
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
    /// Looks up which pod of a ServiceAccount runs on a node.
    ///
    /// # Errors
    /// When the API server does not answer, or none does.
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

/// What the API server should answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The request is carried out.
    Allowed,
    /// It is carried out without the change that it is made for.
    Ignored,
    /// It is refused, with a message that contains this text: a request that is refused for
    /// another reason than the one it was made for proves nothing.
    Refused(String),
}

impl Expected {
    /// Whether this is the answer.
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

/// One thing that was tried.
#[derive(Debug, Clone)]
pub struct Check {
    /// What it is about: the title of a section of the matrix.
    pub section: &'static str,
    /// What was tried, in words.
    pub what: &'static str,
    /// What the answer should be.
    pub expected: Expected,
    /// What it was.
    pub seen: Answer,
}

impl Check {
    /// Whether the answer is the expected one.
    pub fn holds(&self) -> bool {
        self.expected.is(&self.seen)
    }
}

/// Tries everything that a thief of this reporter's token would, with a token of its own that is
/// bound to the same pod. What must not be done is asked for as a dry run, so that a hole is found
/// without being fallen through.
///
/// # Errors
/// When a token cannot be had, or the API server gives an answer that neither allows nor refuses.
pub fn verify(layout: &Layout, reporter: &Reporter, scene: &Scene) -> Result<Vec<Check>> {
    scene.check(layout)?;
    let bound = Session::bound(layout, reporter)?;
    let unbound = Session::unbound(layout, reporter)?;
    let rows =
        matrix().iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)));
    rows.filter(|(_, row)| !row.needs_another_rule || scene.other_rules_condition.is_some())
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
