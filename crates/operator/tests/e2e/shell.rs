//! Runs commands as a user types them.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The timeout of one command, in seconds, for commands that hang. The longest command, `make deploy`, has its own,
/// shorter timeout.
const LIMIT: &str = "240";

/// Variables that a user's shell does not have: those that the calling `make` passes on, and those that change the
/// Makefile's defaults.
const NOT_THE_USERS: [&str; 8] =
    ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "NODES", "KUBE", "KUBECTL", "IMG_PREFIX", "IMG_TAG"];

/// The prefixes of the variables that cargo sets for this test. With them a cargo that a command starts would see a
/// change, and build ring and its dependents again.
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

    /// Returns its standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Returns its standard output, and fails the test if the command failed.
    pub fn expect_success(&self) -> String {
        assert!(self.output.status.success(), "{self}");
        self.stdout()
    }
}

/// Shows the command, its output and its exit status.
impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stderr = String::from_utf8_lossy(&self.output.stderr);
        write!(f, "$ {}\n{}{stderr}({})", self.command, self.stdout(), self.output.status)
    }
}

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs a line of shell in a directory of the checkout.
pub fn sh(directory: &Path, line: &str) -> Ran {
    run(line.to_owned(), command("sh").args(["-c", line]).current_dir(directory), "")
}

/// Runs kubectl, which may fail.
pub fn try_kubectl(arguments: &[&str]) -> Ran {
    let line = format!("kubectl {}", arguments.join(" "));
    run(line, command("kubectl").args(arguments), "")
}

/// Runs kubectl, which must succeed, and returns its output.
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments).expect_success()
}

/// Gets an object as JSON.
pub fn get<T: DeserializeOwned>(arguments: &[&str]) -> T {
    let json = kubectl(&[&["get", "--output=json"], arguments].concat());
    serde_json::from_str(&json).unwrap()
}

/// Gets all objects of a kind that the arguments select, as JSON.
pub fn get_all<T: DeserializeOwned>(arguments: &[&str]) -> Vec<T> {
    /// kubectl's own list, whose kind is not part of the API.
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

/// Returns a command with the timeout and with the kubeconfig of the tests' cluster.
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

/// Returns the kubeconfig of the tests' cluster. It has its own variable, because these tests must not change the
/// cluster of a user's `KUBECONFIG`.
pub fn kubeconfig() -> OsString {
    let path = std::env::var_os("NRR_E2E_KUBECONFIG");
    path.expect("NRR_E2E_KUBECONFIG must name a local cluster's kubeconfig; run make test")
}

fn run(line: String, command: &mut Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The write fails if the program does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran { command: line, output: child.wait_with_output().unwrap() }
}
