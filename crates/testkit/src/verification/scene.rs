//! Makes the attempt of a row of the matrix with the names of this cluster.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Answer, Expected, Reporter,
    row::{Attempt, Cell, Row, Who},
    session::{self, Action, Identity, Session, Update},
    setting::{Access, Setting},
};
use crate::{
    error::{Error, Result},
    kubectl::Kubectl,
    layout::Layout,
};

/// The names and the setting that surround a reporter's token.
#[derive(Debug)]
pub struct Scene {
    /// The way to run reporters in this cluster.
    pub setting: Setting,
    pub(super) own: String,
    pub(super) other: String,
    namespace: String,
    account: String,
    pub(super) own_condition: String,
    pub(super) other_rules_condition: Option<String>,
    pub(super) generated: bool,
    pub(super) now: Timestamp,
}

impl Scene {
    /// Returns the scene of a reporter. `other` is a node that it does not run on.
    pub fn of(reporter: &Reporter, setting: Setting, other: &str) -> Self {
        Self {
            setting,
            own: reporter.node.clone(),
            other: other.to_owned(),
            namespace: reporter.namespace.clone(),
            account: reporter.service_account.clone(),
            own_condition: reporter.condition_type.clone(),
            other_rules_condition: None,
            generated: true,
            now: Timestamp::now(),
        }
    }

    /// Adds the condition that another rule probes, for the row that needs one.
    #[must_use]
    pub fn with_another_rule(mut self, condition_type: &str) -> Self {
        self.other_rules_condition = Some(condition_type.to_owned());
        self
    }

    /// Leaves out the rows that need a generated reporter.
    #[must_use]
    pub fn deployed_by_hand(self) -> Self {
        Self { generated: false, ..self }
    }

    /// Fails if the reporter has not written its condition yet, because a heartbeat then changes nothing.
    pub(super) fn check(&self, layout: &Layout) -> Result<()> {
        let path = format!("/api/v1/nodes/{}", self.own);
        let node = Kubectl::new(layout).run(&["get", "--raw", &path])?;
        let node = session::parse(&path, &node)?;
        let conditions = node["status"]["conditions"].as_array();
        if conditions.into_iter().flatten().any(|c| c["type"] == self.own_condition) {
            return Ok(());
        }
        Err(Error::NoCondition {
            node: self.own.clone(),
            condition_type: self.own_condition.clone(),
        })
    }

    /// Returns the expected answer of a row in this setting.
    pub(super) fn expected(&self, row: &Row) -> Expected {
        match row.cell(self.setting) {
            Cell::Works | Cell::Open => Expected::Allowed,
            Cell::Ignored => Expected::Ignored,
            Cell::Refused(_, says) => Expected::Refused(says.to_owned()),
            Cell::Lacks(verb, resource) => {
                let impersonates = self.setting.access == Access::ConstrainedImpersonation
                    && row.who != Who::Itself;
                let on = if impersonates { "impersonate-on:associated-node:" } else { "" };
                Expected::Refused(format!("cannot {on}{verb} resource \"{resource}\""))
            }
        }
    }

    /// Makes the attempt of a row.
    pub(super) fn attempt(&self, row: &Row, session: &Session) -> Result<Answer> {
        let change = |node: &mut Value| match row.attempt {
            Attempt::Update(_, change) => change(node, self),
            _ => super::changes::heartbeat(node, self),
        };
        let update = |path: &str, dry_run| {
            let path = self.fill_in(path);
            let object = path.trim_end_matches("/status").to_owned();
            Action::Update(Update { object, path, change: &change, dry_run })
        };
        let dry_run = |path: &str| format!("{}?dryRun=All", self.fill_in(path));
        let action = match row.attempt {
            Attempt::Read(path) => Action::Read(self.fill_in(path)),
            Attempt::Update(path, _) => update(path, true),
            Attempt::Heartbeat => update("/api/v1/nodes/{own}/status", false),
            Attempt::Create(path, api_version, kind) => {
                let object = json!({"apiVersion": api_version, "kind": kind});
                Action::Create(dry_run(path), object)
            }
            Attempt::Delete(path) => Action::Delete(dry_run(path)),
            Attempt::PatchNode => {
                Action::PatchNode(self.own.clone(), json!({"spec": {"taints": null}}))
            }
            Attempt::PatchStatus => Action::ApplyNodeStatus(json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": self.own},
                "status": {"phase": "Running"},
            })),
        };
        session.perform(&self.identity(row.who), &action)
    }

    fn identity(&self, who: Who) -> Identity {
        let own = || Identity::Node(self.own.clone());
        match who {
            Who::Reporter | Who::Unbound => match self.setting.access {
                Access::ConstrainedImpersonation => own(),
                Access::AdmissionPolicy => Identity::Itself,
            },
            Who::Itself => Identity::Itself,
            Who::ItsNode => own(),
            Who::OtherNode => Identity::Node(self.other.clone()),
            Who::ItsNodeWith(flag) => Identity::NodeWith(self.own.clone(), flag.to_owned()),
            Who::User(name) => Identity::User(name.to_owned()),
        }
    }

    fn fill_in(&self, path: &str) -> String {
        path.replace("{own}", &self.own)
            .replace("{other}", &self.other)
            .replace("{namespace}", &self.namespace)
            .replace("{account}", &self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Guard, matrix};
    use super::*;

    fn scene(access: Access) -> Scene {
        let reporter = Reporter {
            namespace: "ns".to_owned(),
            service_account: "sa".to_owned(),
            pod: "pod".to_owned(),
            node: "node-a".to_owned(),
            condition_type: "example.org/Own".to_owned(),
        };
        Scene::of(&reporter, Setting { access, guard: Guard::Strict }, "node-b")
    }

    /// A change without an effect could not be distinguished from one that the server ignores.
    #[test]
    fn every_change_has_an_effect_and_is_idempotent() {
        let conditions = ["Ready", "MemoryPressure", "example.org/Own"]
            .map(|type_| json!({"type": type_, "status": "True"}));
        let scene = scene(Access::AdmissionPolicy).with_another_rule("example.org/Other");
        for row in matrix().iter().flat_map(|section| section.rows) {
            let Attempt::Update(_, change) = row.attempt else { continue };
            let mut node = json!({
                "metadata": {
                    "labels": {},
                    "annotations": {"readiness.k8s.io/rules": "{}"},
                    "managedFields": [{"manager": "kubelet"}],
                },
                "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
                "status": {"conditions": conditions},
            });
            let before = node.clone();
            change(&mut node, &scene);
            let once = node.clone();
            change(&mut node, &scene);
            assert_eq!(node, once, "{}", row.what);
            // This row tests the identity, not the change.
            let changes = row.what != "write its node's status as its ServiceAccount";
            assert_eq!(once != before, changes, "{}", row.what);
        }
    }

    #[test]
    fn the_message_of_a_missing_permission_depends_on_the_access() {
        let list = matrix()
            .iter()
            .flat_map(|section| section.rows)
            .find(|row| row.what == "list nodes")
            .expect("the matrix has this row");
        let says = |access| scene(access).expected(list);
        let refused = |text: &str| Expected::Refused(text.to_owned());
        assert_eq!(
            says(Access::ConstrainedImpersonation),
            refused("cannot impersonate-on:associated-node:list resource \"nodes\"")
        );
        assert_eq!(says(Access::AdmissionPolicy), refused("cannot list resource \"nodes\""));
    }

    #[test]
    fn paths_are_filled_in() {
        let path = scene(Access::AdmissionPolicy)
            .fill_in("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/{own}/{other}");
        assert_eq!(path, "/api/v1/namespaces/ns/serviceaccounts/sa/node-a/node-b");
    }
}
