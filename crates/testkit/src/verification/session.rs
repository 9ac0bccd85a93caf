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

/// How long a token is valid; the API server gives none for less than ten minutes.
const TOKEN_LIFETIME: &str = "10m";

/// The number of retries of an update after conflicts.
const UPDATE_TRIES: usize = 5;

/// Without validation, because kubectl would ask for the schema first, which the identity may not read.
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

/// One request to the API server, except where stated otherwise. Requests are raw, because kubectl otherwise
/// asks first what the server serves, and a constrained identity may not do that.
/// even do that.
#[derive(Debug)]
pub enum Action<'a> {
    /// GET of a path: an object, or a list.
    Read(String),
    /// PUT of a changed object. The object is read before, and all of it is repeated after a conflict.
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
    /// Where the object is.
    pub object: String,
    /// Where it is written to: the object itself, or its status.
    pub path: String,
    /// What is changed. Doing it again must change no more.
    pub change: &'a dyn Fn(&mut Value),
    /// Whether it is a dry run, for which the administrator reads the object: what is refused shall
    /// be the write. Who really writes reads by itself.
    pub dry_run: bool,
}

impl fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A token and a kubectl that uses it. Everything of it is in a private directory, which goes when
/// it is dropped.
#[derive(Debug)]
pub struct Session {
    kubectl: Kubectl,
    administrator: Kubectl,
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
        Ok(Self { kubectl, administrator: Kubectl::new(layout), _dir: dir })
    }

    /// Sends a request, and returns the answer.
    ///
    /// # Errors
    /// When kubectl does not get so far, or the answer neither allows nor refuses: no such object,
    /// a conflict that does not end, an overloaded server.
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
        // kubectl may end without reading it all; its own message says why.
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

/// Whether an accepted change is in the object that the server answers with. What of an object a
/// request may not change is often not refused, but left as it is.
fn took_effect(answer: &Value, change: &dyn Fn(&mut Value)) -> Answer {
    let mut again = answer.clone();
    change(&mut again);
    if again == *answer { Answer::Allowed } else { Answer::Ignored }
}

fn conflict(command: String) -> Error {
    Error::Command {
        command,
        status: "a conflict".to_owned(),
        stderr: "someone else keeps writing the object".to_owned(),
    }
}

/// Reads an object that the API server sent.
pub(super) fn parse(path: &str, json: &str) -> Result<Value> {
    serde_json::from_str(json)
        .map_err(|error| Error::Unexpected { path: path.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_that_the_answer_lacks_was_ignored() {
        let change = |object: &mut Value| object["spec"]["unschedulable"] = json!(true);
        let took_effect = |answer: &Value| super::took_effect(answer, &change);
        assert_eq!(took_effect(&json!({"spec": {"unschedulable": true}})), Answer::Allowed);
        assert_eq!(took_effect(&json!({"spec": {}})), Answer::Ignored);
    }

    #[test]
    fn an_identity_is_kubectls_flags() {
        assert!(Identity::Itself.flags().is_empty());
        let node = Identity::NodeWith("node-a".to_owned(), "--as-uid=1".to_owned());
        assert_eq!(node.flags(), ["--as=system:node:node-a", "--as-uid=1"]);
    }
}
