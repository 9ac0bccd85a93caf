//! A row of the matrix: what is tried, in whose name, and what should come of it in each setting.

use super::changes::Change;
use super::setting::{Access, Guard, Setting};

/// Rows about one thing.
#[derive(Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The rows.
    pub rows: &'static [Row],
}

/// One thing that is tried.
#[derive(Debug)]
pub struct Row {
    /// What it is, in words that complete "may a reporter …".
    pub what: &'static str,
    pub(super) who: Who,
    pub(super) attempt: Attempt,
    /// Whether it takes a second rule with a probe.
    pub(super) needs_another_rule: bool,
    /// By constrained impersonation under each guard, and by policy.
    expected: [Cell; 3],
}

/// Whose name a request is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The one in which this access writes.
    Reporter,
    /// The same, with a token of the ServiceAccount that is bound to no pod, and so names no node.
    Unbound,
    /// The ServiceAccount's, whatever the access.
    Itself,
    /// That of the reporter's node, whatever the access.
    ItsNode,
    /// That of the other node.
    OtherNode,
    /// That of its node, with one more flag of kubectl.
    ItsNodeWith(&'static str),
    /// This user's.
    User(&'static str),
}

/// What is asked. `{own}`, `{other}`, `{namespace}` and `{account}` in paths are names: of the
/// reporter's node, of the other node, of the reporter's namespace and its ServiceAccount.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attempt {
    /// GET.
    Read(&'static str),
    /// PUT of the Node or its status at this path, changed.
    Update(&'static str, Change),
    /// The one update that is carried out: a heartbeat in its own condition.
    Heartbeat,
    /// POST of an object with nothing but its kind.
    Create(&'static str, &'static str, &'static str),
    /// DELETE.
    Delete(&'static str),
    /// PATCH of its node.
    PatchNode,
    /// PATCH of its node's status.
    PatchStatus,
}

/// What should come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// It is done: it is a reporter's work.
    Works,
    /// It is done, though no reporter needs it: this way of running reporters leaves it open.
    Open,
    /// The request is carried out without what was tried.
    Ignored,
    /// RBAC grants nobody this verb on this resource.
    Lacks(&'static str, &'static str),
    /// It is refused by this, with a message that contains this text.
    Refused(By, &'static str),
}

/// What refuses where RBAC does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The API server's checks of who may impersonate whom.
    Impersonation,
    /// The authorizer of nodes, which knows what each has to do with.
    NodeAuthorizer,
    /// The admission plugin that knows what no node may change of itself.
    NodeRestriction,
    /// The operator's guard around nodes.
    Guard,
    /// The operator's policy for a rule's reporters.
    Policy,
}

impl Row {
    /// What should come of it in a setting.
    pub fn cell(&self, setting: Setting) -> Cell {
        let [impersonating_records, impersonating_strict, by_policy] = self.expected;
        match (setting.access, setting.guard) {
            (Access::ConstrainedImpersonation, Guard::Records) => impersonating_records,
            (Access::ConstrainedImpersonation, Guard::Strict) => impersonating_strict,
            (Access::AdmissionPolicy, _) => by_policy,
        }
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
    Row { what, who, attempt, needs_another_rule: false, expected }
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
