//! A row of the matrix: the attempt, the identity, and the expected answers.

use super::changes::Change;
use super::setting::{Access, Guard, Setting};

/// Rows with one subject.
#[derive(Debug)]
pub struct Section {
    /// The subject.
    pub title: &'static str,
    /// The rows.
    pub rows: &'static [Row],
}

/// One attempt.
#[derive(Debug)]
pub struct Row {
    /// The attempt, in words that complete "may a reporter …".
    pub what: &'static str,
    pub(super) who: Who,
    pub(super) attempt: Attempt,
    /// Whether it needs a second rule with a probe.
    pub(super) needs_another_rule: bool,
    /// Whether it needs a permission that only generated reporters have: they follow a configuration.
    pub(super) needs_generated: bool,
    /// The expectations: constrained impersonation with each guard, and admission policy.
    expected: [Cell; 3],
}

/// The identity of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The identity as which reporters with this access write.
    Reporter,
    /// The same identity, with a token of the ServiceAccount that is bound to no pod and so names no node.
    Unbound,
    /// The ServiceAccount, with every access.
    Itself,
    /// The reporter's node, with every access.
    ItsNode,
    /// The other node.
    OtherNode,
    /// The reporter's node, with one more flag of kubectl.
    ItsNodeWith(&'static str),
    /// This user.
    User(&'static str),
}

/// The request. In paths, `{own}`, `{other}`, `{namespace}` and `{account}` are names: of the reporter's node,
/// the other node, the reporter's namespace and its ServiceAccount.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attempt {
    /// GET.
    Read(&'static str),
    /// PUT of the Node or its status at this path, with a change.
    Update(&'static str, Change),
    /// The one real update: a heartbeat of its own condition.
    Heartbeat,
    /// POST of an object with only its kind.
    Create(&'static str, &'static str, &'static str),
    /// DELETE.
    Delete(&'static str),
    /// PATCH of its node.
    PatchNode,
    /// PATCH of its node's status.
    PatchStatus,
}

/// The expected answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// The request is allowed, because it is part of a reporter's work.
    Works,
    /// The request is allowed although no reporter needs it.
    Open,
    /// The request is allowed, and the change is ignored.
    Ignored,
    /// RBAC refuses it: the identity lacks this verb on this resource.
    Lacks(&'static str, &'static str),
    /// This part refuses it, with a message that contains this text.
    Refused(By, &'static str),
}

/// The parts other than RBAC that can refuse a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The API server's checks of impersonation.
    Impersonation,
    /// The node authorizer.
    NodeAuthorizer,
    /// The admission plugin NodeRestriction.
    NodeRestriction,
    /// The operator's guard.
    Guard,
    /// The operator's policy for a rule's reporters.
    Policy,
}

impl Row {
    /// Returns the expectation for a setting.
    pub fn cell(&self, setting: Setting) -> Cell {
        let [impersonating_records, impersonating_strict, by_policy] = self.expected;
        match (setting.access, setting.guard) {
            (Access::ConstrainedImpersonation, Guard::Records) => impersonating_records,
            (Access::ConstrainedImpersonation, Guard::Strict) => impersonating_strict,
            (Access::AdmissionPolicy, _) => by_policy,
        }
    }

    pub(super) const fn of_generated(mut self) -> Self {
        self.needs_generated = true;
        self
    }

    pub(super) const fn with_another_rule(mut self) -> Self {
        self.needs_another_rule = true;
        self
    }
}

pub(super) const fn row(
    what: &'static str,
    who: Who,
    attempt: Attempt,
    expected: [Cell; 3],
) -> Row {
    Row { what, who, attempt, needs_another_rule: false, needs_generated: false, expected }
}

pub(super) const fn read(what: &'static str, path: &'static str, expected: [Cell; 3]) -> Row {
    row(what, Who::Reporter, Attempt::Read(path), expected)
}

pub(super) const fn update(
    what: &'static str,
    path: &'static str,
    change: Change,
    expected: [Cell; 3],
) -> Row {
    row(what, Who::Reporter, Attempt::Update(path, change), expected)
}

pub(super) const fn all(cell: Cell) -> [Cell; 3] {
    [cell; 3]
}

pub(super) const fn guard(says: &'static str) -> Cell {
    Cell::Refused(By::Guard, says)
}

pub(super) const fn policy(says: &'static str) -> Cell {
    Cell::Refused(By::Policy, says)
}

pub(super) const fn restriction(says: &'static str) -> Cell {
    Cell::Refused(By::NodeRestriction, says)
}

pub(super) const fn impersonation(says: &'static str) -> Cell {
    Cell::Refused(By::Impersonation, says)
}
