//! kubectl with a ServiceAccount's token and no other credentials.

use std::{
    fmt,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
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

/// The lifetime of a token. The API server's minimum is ten minutes.
const TOKEN_LIFETIME: &str = "10m";

/// The maximum number of attempts of an update, because of conflicts.
const UPDATE_TRIES: usize = 5;

/// The arguments to apply a status. They turn validation off, because kubectl would first read the schema, and the
/// identity may not do that.
const APPLY_STATUS: [&str; 6] = [
    "apply",
    "--server-side",
    "--subresource=status",
    "--dry-run=server",
    "--validate=false",
    "-f-",
];

/// The identity of a request.
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
    /// Returns the flags with which kubectl impersonates this identity.
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

/// One request to the API server, except where stated otherwise. Requests are raw, because kubectl otherwise reads the
/// discovery documents first, and a constrained identity may not do that.
#[derive(Debug)]
pub enum Action<'a> {
    /// GET of a path: an object, or a list.
    Read(String),
    /// GET and PUT of an object. Both are repeated after a conflict.
    Update(Update<'a>),
    /// POST of an object to a path.
    Create(String, Value),
    /// DELETE of a path.
    Delete(String),
    /// Strategic merge PATCH of a node, as a dry run. kubectl reads the node first.
    PatchNode(String, Value),
    /// Server-side apply, which is a PATCH, of a node's status, as a dry run.
    ApplyNodeStatus(Value),
}

/// An update of an object.
pub struct Update<'a> {
    /// The path of the object.
    pub object: String,
    /// The path of the write: the object itself, or its status.
    pub path: String,
    /// The change, which must be idempotent.
    pub change: &'a dyn Fn(&mut Value),
    /// Whether the write is a dry run. For a dry run the administrator reads the object, so that only the write can be
    /// refused. Otherwise the identity itself reads it.
    pub dry_run: bool,
}

impl fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A token and a kubectl that uses it. Their files are in a private directory, which is removed on drop.
#[derive(Debug)]
pub struct Session {
    kubectl: Kubectl,
    administrator: Kubectl,
    _dir: TempDir,
}

impl Session {
    /// Opens a session with a new token that is bound to the reporter's pod. Like the token in the pod, it names the
    /// pod's node and expires with the pod.
    ///
    /// # Errors
    /// When the API server issues no token, for example because the pod does not exist.
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

    /// Opens a session with a new token of the same ServiceAccount that is bound to no object.
    ///
    /// # Errors
    /// When the API server issues no token.
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
        // Every authenticated user may read the discovery documents. With them in its cache kubectl does not read
        // them again as an identity that may not.
        kubectl.run(&["api-resources", "--output=name"])?;
        Ok(Self { kubectl, administrator: Kubectl::new(layout), _dir: dir })
    }

    /// Sends a request, and returns the answer.
    ///
    /// # Errors
    /// When kubectl fails before the request, or the answer neither allows nor refuses it: a missing object, repeated
    /// conflicts, or an overloaded server.
    pub fn perform(&self, identity: &Identity, action: &Action) -> Result<Answer> {
        let ask = |arguments: &[&str], body: Option<&Value>| self.ask(identity, arguments, body);
        let reply = match action {
            Action::Read(path) => ask(&["get", "--raw", path], None)?,
            Action::Update(update) => return self.update(identity, update),
            Action::Create(path, body) => ask(&["create", "--raw", path, "-f-"], Some(body))?,
            Action::Delete(path) => ask(&["delete", "--raw", path], None)?,
            Action::PatchNode(node, patch) => {
                let patch = format!("--patch={patch}");
                ask(&["patch", "node", node, "--dry-run=server", &patch], None)?
            }
            Action::ApplyNodeStatus(object) => ask(&APPLY_STATUS, Some(object))?,
        };
        match reply {
            Reply::Done(_) => Ok(Answer::Allowed),
            Reply::Refused(message) => Ok(Answer::Refused(message)),
            Reply::Conflict => Err(conflict(format!("{action:?}"))),
        }
    }

    fn update(&self, identity: &Identity, update: &Update) -> Result<Answer> {
        let Update { object: from, path, change, dry_run } = update;
        let read = ["get", "--raw", from];
        let path = if *dry_run { format!("{path}?dryRun=All") } else { path.clone() };
        for _ in 0..UPDATE_TRIES {
            let mut read = if *dry_run {
                self.administrator.command(&read)
            } else {
                self.command(identity, &read)
            };
            let mut object = match run(&mut read, None)? {
                Reply::Done(object) => parse(from, &object)?,
                Reply::Refused(message) => return Ok(Answer::Refused(message)),
                Reply::Conflict => return Err(conflict(describe(&read))),
            };
            change(&mut object);
            match self.ask(identity, &["replace", "--raw", &path, "-f-"], Some(&object))? {
                Reply::Done(answer) => return Ok(took_effect(&parse(&path, &answer)?, change)),
                Reply::Refused(message) => return Ok(Answer::Refused(message)),
                Reply::Conflict => {}
            }
        }
        Err(conflict(format!("{update:?}")))
    }

    fn ask(&self, identity: &Identity, arguments: &[&str], body: Option<&Value>) -> Result<Reply> {
        run(&mut self.command(identity, arguments), body)
    }

    fn command(&self, identity: &Identity, arguments: &[&str]) -> Command {
        let mut command = self.kubectl.command(arguments);
        command.args(identity.flags());
        command
    }
}

/// Runs kubectl to its end with an object on its standard input.
fn run(command: &mut Command, body: Option<&Value>) -> Result<Reply> {
    let start = |cause| Error::Start { program: "kubectl".to_owned(), cause };
    let stdin = if body.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(start)?;
    if let (Some(mut stdin), Some(body)) = (running.stdin.take(), body) {
        // kubectl may end before it has read all of the input. Its own message then has the cause.
        let _ = stdin.write_all(body.to_string().as_bytes());
    }
    let output = running.wait_with_output().map_err(start)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    answer::read(output.status.success(), &stdout, &stderr).ok_or_else(|| Error::Command {
        command: describe(command),
        status: output.status.to_string(),
        stderr: stderr.trim().to_owned(),
    })
}

/// Returns whether an accepted change is in the object that the server returns. Instead of a refusal, the server often
/// ignores the fields that a request may not change.
fn took_effect(answer: &Value, change: &dyn Fn(&mut Value)) -> Answer {
    let mut again = answer.clone();
    change(&mut again);
    if again == *answer { Answer::Allowed } else { Answer::Ignored }
}

fn conflict(command: String) -> Error {
    Error::Command {
        command,
        status: "a conflict".to_owned(),
        stderr: "another client keeps changing the object".to_owned(),
    }
}

/// Parses an object that the API server sent.
pub(super) fn parse(path: &str, json: &str) -> Result<Value> {
    serde_json::from_str(json)
        .map_err(|error| Error::Unexpected { path: path.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_that_is_missing_from_the_answer_was_ignored() {
        let change = |object: &mut Value| object["spec"]["unschedulable"] = json!(true);
        let took_effect = |answer: &Value| super::took_effect(answer, &change);
        assert_eq!(took_effect(&json!({"spec": {"unschedulable": true}})), Answer::Allowed);
        assert_eq!(took_effect(&json!({"spec": {}})), Answer::Ignored);
    }

    #[test]
    fn each_identity_has_its_impersonation_flags() {
        assert!(Identity::Itself.flags().is_empty());
        let node = Identity::NodeWith("node-a".to_owned(), "--as-uid=1".to_owned());
        assert_eq!(node.flags(), ["--as=system:node:node-a", "--as-uid=1"]);
    }
}
