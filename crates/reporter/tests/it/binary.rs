//! The binary with settings that are missing or wrong: one line that names the setting, on standard
//! error and in the termination log, and exit code 2.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use tempfile::NamedTempFile;

const BINARY: &str = env!("CARGO_BIN_EXE_node-readiness-reporter");

const ENVIRONMENT: [(&str, &str); 3] = [
    ("NODE_NAME", "node-a"),
    ("CONDITION_TYPE", "example.com/Ready"),
    ("CHECK_ENDPOINT", "http://localhost:9099/readiness"),
];

fn reporter(arguments: &[&str], environment: &[(&str, &str)]) -> (Output, String) {
    let termination_log = NamedTempFile::new().unwrap();
    // Longer than what is to replace it.
    fs::write(termination_log.path(), "last words of another container\n".repeat(100)).unwrap();
    let output = Command::new(BINARY)
        .arg("--termination-log")
        .arg(termination_log.path())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (output, fs::read_to_string(termination_log.path()).unwrap())
}

/// Runs the binary and checks that it ends with exactly one line that names all of `named`.
#[track_caller]
fn ends_naming(arguments: &[&str], environment: &[(&str, &str)], named: &[&str]) {
    let (output, termination_log) = reporter(arguments, environment);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(line.ends_with('\n'), "{line}");
    for named in named {
        assert!(line.contains(named), "{named:?} in {line}");
    }
    assert_eq!(termination_log, line);
}

/// The environment form with one variable replaced, or without it.
fn environment<'a>(name: &'a str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    ENVIRONMENT
        .into_iter()
        .filter(|(key, _)| *key != name)
        .chain(value.map(|value| (name, value)))
        .collect()
}

#[test]
fn each_missing_variable_is_named() {
    for (name, _) in ENVIRONMENT {
        ends_naming(&[], &environment(name, None), &[name, "not set"]);
        ends_naming(&[], &environment(name, Some("")), &[name, "not set"]);
    }
}

#[test]
fn each_wrong_variable_is_named_with_its_value() {
    for (name, value) in [
        ("NODE_NAME", "not/a/node"),
        ("CONDITION_TYPE", "MemoryPressure"),
        ("CHECK_ENDPOINT", "localhost:9099"),
        ("CHECK_ENDPOINT", "unix:///run/agent.sock"),
    ] {
        ends_naming(&[], &environment(name, Some(value)), &[name, value]);
    }
}

#[test]
fn the_form_with_arguments_needs_the_nodes_name_too() {
    let arguments = ["--config-map=reporters/reporter", "--impersonate-node"];
    ends_naming(&arguments, &[], &["NODE_NAME"]);
    let address = [("NODE_NAME", "node-a"), ("NODE_ADDRESS", "node-a")];
    ends_naming(&arguments, &address, &["NODE_ADDRESS", "node-a"]);
}

#[test]
fn outside_of_a_cluster_it_says_so() {
    let named = ["KUBERNETES_SERVICE_HOST", "automountServiceAccountToken"];
    ends_naming(&[], &ENVIRONMENT, &named);
    ends_naming(&["--config-map=reporters/reporter"], &ENVIRONMENT[..1], &named);
}

#[test]
fn an_unusable_setting_is_logged_and_standard_error_kept_clean() {
    let (output, _) = reporter(&[], &environment("METRICS_BIND_ADDRESS", Some("9445")));
    let log = String::from_utf8(output.stdout).unwrap();
    assert_eq!(log.matches("METRICS_BIND_ADDRESS").count(), 1, "{log}");
    assert!(!log.contains('\x1b'), "no colours in a file: {log:?}");
}

#[test]
fn a_check_of_a_reporter_that_never_lived_says_what_is_missing() {
    let output = Command::new(BINARY)
        .args(["--check-liveness", "/nonexistent"])
        .env_clear()
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains("/nonexistent") && line.contains("--liveness-file"), "{line}");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
}

#[test]
fn the_program_copies_itself_to_the_given_directory() {
    let dir = tempfile::tempdir().unwrap();
    let install =
        |dir: &Path| Command::new(BINARY).arg("--install").arg(dir).env_clear().output().unwrap();
    // The second time it replaces what is there.
    for _ in 0..2 {
        let output = install(dir.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    let copy = dir.path().join("node-readiness-reporter");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o755);
    let output = Command::new(copy).arg("--version").env_clear().output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));

    let output = install("/nonexistent".as_ref());
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("--install /nonexistent"), "{line}");
}

#[test]
fn logs_can_be_json() {
    let (output, _) =
        reporter(&["--log-format", "json"], &environment("CHECK_INTERVAL", Some("soon")));
    let log = String::from_utf8(output.stdout).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().unwrap().contains("CHECK_INTERVAL"), "{line}");
}

#[test]
fn a_wrong_argument_is_named() {
    let output = Command::new(BINARY).arg("--confg").env_clear().output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("--confg"), "{line}");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (argument, text) in
        [("--help", "--config-map <NAMESPACE/NAME>"), ("--version", env!("CARGO_PKG_VERSION"))]
    {
        let output = Command::new(BINARY).arg(argument).env_clear().output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(text));
        assert!(output.stderr.is_empty());
    }
}
