//! Running commands as a user types them. Nothing here knows what they mean.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long one command may take, in seconds. The longest, `make deploy`, has a shorter limit of
/// its own, so this is only for what hangs.
const LIMIT: &str = "240";

/// What a user's shell does not have: what the `make` above us tells its own `make`s, and variables
/// that would have the Makefile make something else than by default.
const NOT_THE_USERS: [&str; 8] =
    ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "NODES", "KUBE", "KUBECTL", "IMG_PREFIX", "IMG_TAG"];

/// How the variables begin that cargo sets for this test alone. A cargo below us would take them for
/// a change, and build ring and what depends on it anew.
const CARGOS: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    command: String,
    output: Output,
}

impl Ran {
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// What it printed, without what it said on standard error.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What it printed, provided that it succeeded.
    pub fn expect_success(&self) -> String {
        assert!(self.output.status.success(), "{self}");
        self.stdout()
    }
}

/// As in a terminal, and how it ended.
impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stderr = String::from_utf8_lossy(&self.output.stderr);
        write!(f, "$ {}\n{}{stderr}({})", self.command, self.stdout(), self.output.status)
    }
}

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs a line of shell in a directory of the checkout.
pub fn sh(directory: &Path, line: &str) -> Ran {
    run(line.to_owned(), command("sh").args(["-c", line]).current_dir(directory), "")
}

/// Runs kubectl, whatever comes of it.
pub fn try_kubectl(arguments: &[&str]) -> Ran {
    let line = format!("kubectl {}", arguments.join(" "));
    run(line, command("kubectl").args(arguments), "")
}

/// Runs kubectl, which must succeed, and returns what it printed.
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments).expect_success()
}

/// Gets something as JSON.
pub fn get<T: DeserializeOwned>(arguments: &[&str]) -> T {
    let json = kubectl(&[&["get", "--output=json"], arguments].concat());
    serde_json::from_str(&json).unwrap()
}

/// Gets all objects of a kind that the arguments select, as JSON.
pub fn get_all<T: DeserializeOwned>(arguments: &[&str]) -> Vec<T> {
    /// kubectl's own list, which is of no kind that the API has.
    #[derive(serde::Deserialize)]
    struct List<T> {
        items: Vec<T>,
    }
    get::<List<T>>(arguments).items
}

/// Creates or changes an object.
pub fn apply(object: &Value) {
    let line = format!("kubectl apply -f - # {object}");
    let mut kubectl = command("kubectl");
    run(line, kubectl.args(["apply", "-f", "-"]), &object.to_string()).expect_success();
}

/// A program under the time limit, with the cluster that the tests are for.
fn command(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT, program]);
    command.env("KUBECONFIG", kubeconfig());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if NOT_THE_USERS.contains(&&*text) || CARGOS.iter().any(|c| text.starts_with(c)) {
            command.env_remove(&name);
        }
    }
    command
}

/// It has to be named explicitly: who runs `cargo test` in a shell with a KUBECONFIG did not mean
/// that these tests may have that cluster.
pub fn kubeconfig() -> OsString {
    let path = std::env::var_os("NRR_E2E_KUBECONFIG");
    path.expect("NRR_E2E_KUBECONFIG must name a local cluster's kubeconfig; run make test")
}

fn run(line: String, command: &mut Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input has no use for it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran { command: line, output: child.wait_with_output().unwrap() }
}
