//! The list of what is tried with a reporter's token. To try more, add a line.

use serde_json::{Value, json};

use super::{Action, Expected, Identity, Reporter};

/// One line of the list.
pub(super) struct Attempt {
    pub(super) what: String,
    pub(super) identity: Identity,
    pub(super) action: Action,
    pub(super) expected: Expected,
}

/// Where it happens.
pub(super) struct Scene<'a> {
    pub(super) reporter: &'a Reporter,
    /// The reporter's node as it is.
    pub(super) own: Value,
    pub(super) other_node: &'a str,
    /// The other node as it is.
    pub(super) other: Value,
}

impl Scene<'_> {
    /// With the token that is bound to the reporter's pod.
    pub(super) fn with_the_pods_token(&self) -> Vec<Attempt> {
        [
            self.its_work(),
            self.in_its_own_name(),
            self.as_another(),
            self.more_of_its_node(),
            self.more_of_the_cluster(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// With a token of the same ServiceAccount that is bound to no pod and so names no node.
    pub(super) fn with_an_unbound_token(&self) -> Vec<Attempt> {
        vec![
            refused(
                "unbound token: read its node as the node",
                self.own_node(),
                self.read_own(),
                "cannot impersonate-on:arbitrary-node:get",
            ),
            refused(
                "unbound token: update its node's status as the node",
                self.own_node(),
                self.replace_own("/status", &self.own),
                "cannot impersonate-on:arbitrary-node:update",
            ),
        ]
    }

    fn its_work(&self) -> Vec<Attempt> {
        let heartbeat = Action::Heartbeat {
            node: self.reporter.node.clone(),
            condition_type: self.reporter.condition_type.clone(),
        };
        vec![
            allowed("read its node as the node", self.own_node(), self.read_own()),
            allowed("update its node's status as the node", self.own_node(), heartbeat),
        ]
    }

    fn in_its_own_name(&self) -> Vec<Attempt> {
        vec![
            refused(
                "read its node in its own name",
                Identity::Itself,
                self.read_own(),
                "cannot get resource \"nodes\"",
            ),
            refused(
                "update its node's status in its own name",
                Identity::Itself,
                self.replace_own("/status", &self.own),
                "cannot update resource \"nodes/status\"",
            ),
            refused(
                "make a token for itself",
                Identity::Itself,
                self.make_token(),
                "cannot create resource \"serviceaccounts/token\"",
            ),
        ]
    }

    fn as_another(&self) -> Vec<Attempt> {
        let other = || Identity::Node(self.other_node.to_owned());
        let path = node_path(self.other_node);
        let status = dry_run(&format!("{path}/status"));
        vec![
            refused(
                "read another node as that node",
                other(),
                Action::Read(path),
                "cannot impersonate-on:arbitrary-node:get",
            ),
            refused(
                "update another node's status as that node",
                other(),
                Action::Replace(status.clone(), latest(&self.other)),
                "cannot impersonate-on:arbitrary-node:update",
            ),
            refused(
                "update another node's status as its own node",
                self.own_node(),
                Action::Replace(status, latest(&self.other)),
                "is not allowed to modify node",
            ),
            refused(
                "be its node with group system:masters",
                self.own_node_with("--as-group=system:masters"),
                self.read_own(),
                "cannot impersonate",
            ),
            refused(
                "be its node with a uid",
                self.own_node_with("--as-uid=1"),
                self.read_own(),
                "cannot impersonate",
            ),
            refused(
                "be its node with an extra field",
                self.own_node_with("--as-user-extra=scopes=all"),
                self.read_own(),
                "cannot impersonate",
            ),
            refused(
                "be another user",
                Identity::User("kubernetes-admin".to_owned()),
                self.read_own(),
                "cannot impersonate",
            ),
        ]
    }

    fn more_of_its_node(&self) -> Vec<Attempt> {
        let mut no_taints = self.own.clone();
        no_taints["spec"]["taints"] = json!([]);
        let mut reserved = self.own.clone();
        reserved["metadata"]["labels"]["node-restriction.kubernetes.io/verified"] = json!("true");
        let label = json!({"metadata": {"labels": {"example.org/verified": "true"}}});
        let mut labelled = self.own.clone();
        labelled["metadata"]["labels"]["example.org/verified"] = json!("true");
        let update = "cannot impersonate-on:associated-node:update resource \"nodes\"";
        let patch = "cannot impersonate-on:associated-node:patch resource \"nodes\"";
        let name = || self.reporter.node.clone();
        let node = || self.own_node();
        vec![
            refused("take its node's taints off", node(), self.replace_own("", &no_taints), update),
            refused(
                "take them off by patch",
                node(),
                Action::PatchNode(name(), json!({"spec": {"taints": null}})),
                patch,
            ),
            refused(
                "take them off through its status",
                node(),
                self.replace_own("/status", &no_taints),
                "is not allowed to modify taints",
            ),
            refused("label its node", node(), self.replace_own("", &labelled), update),
            refused("label it by patch", node(), Action::PatchNode(name(), label), patch),
            refused(
                "set a reserved label through its status",
                node(),
                self.replace_own("/status", &reserved),
                "is not allowed to modify labels",
            ),
            refused(
                "patch its node's status",
                node(),
                Action::ApplyNodeStatus(json!({
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": self.reporter.node},
                    "status": {"phase": "Running"},
                })),
                "cannot impersonate-on:associated-node:patch resource \"nodes/status\"",
            ),
            refused(
                "delete its node",
                node(),
                Action::Delete(dry_run(&node_path(&self.reporter.node))),
                "cannot impersonate-on:associated-node:delete resource \"nodes\"",
            ),
        ]
    }

    fn more_of_the_cluster(&self) -> Vec<Attempt> {
        let namespace = format!("/api/v1/namespaces/{}", self.reporter.namespace);
        let read = |what, path: String, permission: &str| {
            let because = format!("cannot impersonate-on:associated-node:{permission}");
            refused(what, self.own_node(), Action::Read(path), &because)
        };
        vec![
            read("list nodes", "/api/v1/nodes".to_owned(), "list resource \"nodes\""),
            read("list pods", "/api/v1/pods".to_owned(), "list resource \"pods\""),
            read("list secrets", format!("{namespace}/secrets"), "list resource \"secrets\""),
            read("read a secret", format!("{namespace}/secrets/any"), "get resource \"secrets\""),
            refused(
                "make a token as the node",
                self.own_node(),
                self.make_token(),
                "cannot impersonate-on:associated-node:create resource \"serviceaccounts/token\"",
            ),
        ]
    }

    fn own_node(&self) -> Identity {
        Identity::Node(self.reporter.node.clone())
    }

    fn own_node_with(&self, flag: &str) -> Identity {
        Identity::NodeWith(self.reporter.node.clone(), flag.to_owned())
    }

    fn read_own(&self) -> Action {
        Action::Read(node_path(&self.reporter.node))
    }

    fn replace_own(&self, subresource: &str, node: &Value) -> Action {
        let path = format!("{}{subresource}", node_path(&self.reporter.node));
        Action::Replace(dry_run(&path), latest(node))
    }

    fn make_token(&self) -> Action {
        let Reporter { namespace, service_account, .. } = self.reporter;
        let path =
            format!("/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
        Action::Create(dry_run(&path), request)
    }
}

fn node_path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

fn dry_run(path: &str) -> String {
    format!("{path}?dryRun=All")
}

/// The object without the version that it was read at: what is refused must not be so because
/// kubelet wrote in between.
fn latest(node: &Value) -> Value {
    let mut node = node.clone();
    if let Some(metadata) = node["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    node
}

fn allowed(what: &str, identity: Identity, action: Action) -> Attempt {
    Attempt { what: what.to_owned(), identity, action, expected: Expected::Allowed }
}

fn refused(what: &str, identity: Identity, action: Action, because: &str) -> Attempt {
    let expected = Expected::Refused(because.to_owned());
    Attempt { what: what.to_owned(), identity, action, expected }
}
