//! kubectl with a ServiceAccount's token and no other credentials.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Answer, Reporter,
    answer::{self, Reply},
    kubeconfig,
};
use crate::{
    command::describe,
    error::{Error, Result},
    files,
    kubectl::Kubectl,
    layout::Layout,
};

/// How long a token is valid; the API server gives none for less than ten minutes.
const TOKEN_LIFETIME: &str = "10m";

/// How often a status update is tried anew when kubelet was faster.
const UPDATE_TRIES: usize = 5;

/// Validation would have kubectl ask for the schema first, as someone who may not.
const APPLY_STATUS: [&str; 6] = [
    "apply",
    "--server-side",
    "--subresource=status",
    "--dry-run=server",
    "--validate=false",
    "-f-",
];

/// Who a request says it comes from.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The ServiceAccount itself.
    Itself,
    /// The node of this name, by impersonation.
    Node(String),
    /// The node of this name, with one more impersonation flag of kubectl, such as
    /// `--as-group=system:masters`.
    NodeWith(String, String),
    /// This user, by impersonation.
    User(String),
}

impl Identity {
    /// The flags that make kubectl ask as this identity.
    fn flags(&self) -> Vec<String> {
        let node = |name: &str| format!("--as=system:node:{name}");
        match self {
            Self::Itself => vec![],
            Self::Node(name) => vec![node(name)],
            Self::NodeWith(name, flag) => vec![node(name), flag.clone()],
            Self::User(name) => vec![format!("--as={name}")],
        }
    }
}

/// What is asked of the API server: one request, except where it says otherwise. Requests are
/// raw because kubectl else asks what the server serves first, and a constrained identity may not
/// even do that.
#[derive(Debug, Clone)]
pub enum Action {
    /// GET of a path: an object, or a list.
    Read(String),
    /// PUT of an object to a path.
    Replace(String, Value),
    /// POST of an object to a path.
    Create(String, Value),
    /// DELETE of a path.
    Delete(String),
    /// Strategic merge PATCH of a node, as a dry run. kubectl reads the node first.
    PatchNode(String, Value),
    /// Server-side apply, which is a PATCH, of a node's status, as a dry run.
    ApplyNodeStatus(Value),
    /// What a reporter does: GET of a node, PUT of its status with a new heartbeat in the
    /// condition of this type, again if someone else wrote it in between. It does change the node.
    Heartbeat {
        /// The node.
        node: String,
        /// The condition, which must be there.
        condition_type: String,
    },
}

/// A token and a kubectl that uses it. Everything of it is in a private directory, which goes when
/// it is dropped.
#[derive(Debug)]
pub struct Session {
    kubectl: Kubectl,
    _dir: TempDir,
}

impl Session {
    /// With a new token that is bound to the reporter's pod, as the one in the pod is: it says on
    /// which node the pod runs, and ends with the pod.
    ///
    /// # Errors
    /// When the API server gives no token, for example because the pod is gone.
    pub fn bound(layout: &Layout, reporter: &Reporter) -> Result<Self> {
        let admin = Kubectl::new(layout);
        let namespace = format!("--namespace={}", reporter.namespace);
        let uid = admin.run(&[
            &namespace,
            "get",
            "pod",
            &reporter.pod,
            "--output=jsonpath={.metadata.uid}",
        ])?;
        let name = format!("--bound-object-name={}", reporter.pod);
        let uid = format!("--bound-object-uid={uid}");
        Self::open(layout, reporter, &["--bound-object-kind=Pod", &name, &uid])
    }

    /// With a new token of the same ServiceAccount that is bound to nothing.
    ///
    /// # Errors
    /// When the API server gives no token.
    pub fn unbound(layout: &Layout, reporter: &Reporter) -> Result<Self> {
        Self::open(layout, reporter, &[])
    }

    fn open(layout: &Layout, reporter: &Reporter, binding: &[&str]) -> Result<Self> {
        let namespace = format!("--namespace={}", reporter.namespace);
        let duration = format!("--duration={TOKEN_LIFETIME}");
        let arguments = [&namespace, "create", "token", &reporter.service_account, &duration];
        let token = Kubectl::new(layout).run(&[&arguments, binding].concat())?;

        let dir = tempfile::tempdir().map_err(files::failed("create", &std::env::temp_dir()))?;
        let path = dir.path().join("kubeconfig");
        let admin = files::read(&layout.kubeconfig())?;
        let text = kubeconfig::with_only_token(&admin, token.trim())
            .map_err(|reason| Error::Unexpected { path: layout.kubeconfig(), reason })?;
        files::write_private(&path, text)?;
        let kubectl = Kubectl::with(layout, path, dir.path().join("cache"));
        // Every authenticated user may ask what is served. With the answer in its cache kubectl
        // does not ask again as someone who may not.
        kubectl.run(&["api-resources", "--output=name"])?;
        Ok(Self { kubectl, _dir: dir })
    }

    /// Asks the API server for something, and tells what it answered.
    ///
    /// # Errors
    /// When kubectl does not get so far, or the answer neither allows nor refuses: no such object,
    /// a conflict that does not end, an overloaded server.
    pub fn perform(&self, identity: &Identity, action: &Action) -> Result<Answer> {
        let ask = |arguments: &[&str], body: Option<&Value>| self.ask(identity, arguments, body);
        let (command, reply) = match action {
            Action::Read(path) => ask(&["get", "--raw", path], None)?,
            Action::Replace(path, body) => ask(&["replace", "--raw", path, "-f-"], Some(body))?,
            Action::Create(path, body) => ask(&["create", "--raw", path, "-f-"], Some(body))?,
            Action::Delete(path) => ask(&["delete", "--raw", path], None)?,
            Action::PatchNode(node, patch) => {
                let patch = format!("--patch={patch}");
                ask(&["patch", "node", node, "--dry-run=server", &patch], None)?
            }
            Action::ApplyNodeStatus(object) => ask(&APPLY_STATUS, Some(object))?,
            Action::Heartbeat { node, condition_type } => {
                self.heartbeat(identity, node, condition_type)?
            }
        };
        match reply {
            Reply::Done => Ok(Answer::Allowed),
            Reply::Refused(message) => Ok(Answer::Refused(message)),
            Reply::Conflict => Err(Error::Command {
                command,
                status: "a conflict".to_owned(),
                stderr: "someone else keeps writing the object".to_owned(),
            }),
        }
    }

    fn heartbeat(
        &self,
        identity: &Identity,
        node: &str,
        condition_type: &str,
    ) -> Result<(String, Reply)> {
        let path = format!("/api/v1/nodes/{node}");
        let status = format!("{path}/status");
        let mut last = (String::new(), Reply::Conflict);
        for _ in 0..UPDATE_TRIES {
            let mut read = self.command(identity, &["get", "--raw", &path]);
            let (reply, body) = run(&mut read, None)?;
            if reply != Reply::Done {
                return Ok((describe(&read), reply));
            }
            let mut object = parse(&path, &body)?;
            beat(&mut object, condition_type, Timestamp::now()).ok_or_else(|| {
                Error::NoCondition {
                    node: node.to_owned(),
                    condition_type: condition_type.to_owned(),
                }
            })?;
            last = self.ask(identity, &["replace", "--raw", &status, "-f-"], Some(&object))?;
            if last.1 != Reply::Conflict {
                break;
            }
        }
        Ok(last)
    }

    fn ask(
        &self,
        identity: &Identity,
        arguments: &[&str],
        body: Option<&Value>,
    ) -> Result<(String, Reply)> {
        let mut command = self.command(identity, arguments);
        let (reply, _) = run(&mut command, body)?;
        Ok((describe(&command), reply))
    }

    fn command(&self, identity: &Identity, arguments: &[&str]) -> Command {
        let mut command = self.kubectl.command(arguments);
        command.args(identity.flags());
        command
    }
}

/// Runs kubectl to its end with an object on its standard input.
fn run(command: &mut Command, body: Option<&Value>) -> Result<(Reply, String)> {
    let start = |source| Error::Start { program: "kubectl".to_owned(), source };
    let stdin = if body.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(start)?;
    if let (Some(mut stdin), Some(body)) = (running.stdin.take(), body) {
        // kubectl may end without reading it all; its own message says why.
        let _ = stdin.write_all(body.to_string().as_bytes());
    }
    let output = running.wait_with_output().map_err(start)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reply = answer::read(output.status.success(), &stderr).ok_or_else(|| Error::Command {
        command: describe(command),
        status: output.status.to_string(),
        stderr: stderr.trim().to_owned(),
    })?;
    Ok((reply, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Reads an object that the API server sent.
pub(super) fn parse(path: &str, json: &str) -> Result<Value> {
    serde_json::from_str(json)
        .map_err(|error| Error::Unexpected { path: path.into(), reason: error.to_string() })
}

/// Sets the heartbeat of a node's condition; nothing if it does not have the condition.
fn beat(node: &mut Value, condition_type: &str, now: Timestamp) -> Option<()> {
    let conditions = node.pointer_mut("/status/conditions")?.as_array_mut()?;
    let condition = conditions.iter_mut().find(|condition| condition["type"] == condition_type)?;
    // metav1.Time has whole seconds.
    condition["lastHeartbeatTime"] = json!(format!("{now:.0}"));
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_heartbeat_changes_one_field_of_one_condition() {
        let mut node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "example.org/Agent", "status": "False", "lastHeartbeatTime": "2001-01-01T00:00:00Z"},
        ]}});
        let now = "2026-11-24T08:00:01.9Z".parse().unwrap();
        beat(&mut node, "example.org/Agent", now).unwrap();
        assert_eq!(
            node["status"]["conditions"],
            json!([
                {"type": "Ready", "status": "True"},
                {"type": "example.org/Agent", "status": "False", "lastHeartbeatTime": "2026-11-24T08:00:01Z"},
            ])
        );
        assert!(beat(&mut node, "example.org/Other", now).is_none());
    }

    #[test]
    fn an_identity_is_kubectls_flags() {
        assert!(Identity::Itself.flags().is_empty());
        let node = Identity::NodeWith("node-a".to_owned(), "--as-uid=1".to_owned());
        assert_eq!(node.flags(), ["--as=system:node:node-a", "--as-uid=1"]);
    }
}
