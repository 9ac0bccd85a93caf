//! The `exec` probe with programs that behave, and with programs that do not.
//!
//! That nothing is left of them in the process table is tested in `tests/orphans.rs`, in a process
//! of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use node_readiness_reporter::{
    probe::{Check, ExecCheck},
    run,
    settings::ProbeSettings,
    threshold::Thresholds,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::ApiServer,
    in_time,
    observe::{self, SHORT, first_verdict},
    writing,
};

fn shell(script: &str) -> Check {
    exec(&["sh", "-c", script])
}

fn exec(command: &[&str]) -> Check {
    let (program, arguments) = command.split_first().unwrap();
    Check::Exec(ExecCheck {
        program: (*program).to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    })
}

async fn found(script: &str) -> (bool, String) {
    observe::found(shell(script), "exec sh").await
}

/// Waits until a file has so many words, which are process ids.
async fn process_ids(file: &Path, count: usize) -> Vec<u32> {
    in_time(async {
        loop {
            let text = fs::read_to_string(file).unwrap_or_default();
            let ids: Vec<u32> = text.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            if ids.len() >= count && text.ends_with('\n') {
                return ids;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Waits until a process has ended. It may still be a zombie: nobody here reaps.
async fn ended(id: u32) {
    let running = || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The state is behind the name, which is in parentheses.
        !matches!(
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()),
            None | Some('Z')
        )
    };
    in_time(async {
        while running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_exit_status_decides() {
    for (script, healthy, words) in [
        ("exit 0", true, "exit status 0"),
        ("exit 3", false, "exit status 3"),
        ("kill -9 $$", false, "ended by a signal"),
        ("kill -40 $$", false, "ended by a signal"),
    ] {
        assert_eq!(found(script).await, (healthy, words.into()), "{script}");
    }
}

#[tokio::test]
async fn arguments_are_passed_and_not_shown() {
    let check = exec(&["sh", "-c", "test \"$1\" = 'a b'; exit $?", "password=hunter2", "a b"]);
    assert_eq!(observe::found(check, "exec sh").await, (true, "exit status 0".into()));
}

#[tokio::test]
async fn a_program_that_cannot_run_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("program");
    let path = file.to_str().unwrap();
    // By another process: a file that this one has open for writing while another test forks cannot
    // be executed for a moment.
    let write = std::process::Command::new("sh")
        .args(["-c", "printf '\\177ELF garbage' > \"$0\"", path])
        .status();
    assert!(write.unwrap().success());
    let not_executable = (false, "not an executable program".to_owned());
    for mode in [0o644, 0o755] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = observe::found(exec(&[path]), &format!("exec {path}")).await;
        assert_eq!(outcome, not_executable, "{mode:o}");
    }
    let directory = dir.path().to_str().unwrap();
    let outcome = observe::found(exec(&[directory]), &format!("exec {directory}")).await;
    assert_eq!(outcome, not_executable);
    let missing = (false, "no such program".to_owned());
    for program in ["/nonexistent", "no-such-program-anywhere"] {
        let outcome = observe::found(exec(&[program]), &format!("exec {program}")).await;
        assert_eq!(outcome, missing);
    }
}

#[tokio::test]
async fn there_is_no_input_and_output_never_blocks() {
    assert!(found("test -z \"$(cat)\"").await.0);
    let outcome = found("head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2; exit 7").await;
    assert_eq!(outcome, (false, "exit status 7".into()));
}

#[tokio::test]
async fn a_program_that_writes_for_ever_is_cut_at_the_deadline() {
    let verdict = first_verdict(exec(&["yes"]), SHORT).await;
    let message = "exec yes: not ended within 200ms".to_owned();
    assert_eq!(verdict, ("False", "ProbeTimedOut", message));
}

#[tokio::test]
async fn a_cut_takes_the_whole_group_whatever_it_ignores() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ids");
    let script = format!(
        "trap '' TERM HUP INT; (trap '' TERM HUP INT; sleep 1000) & echo $$ $! >> {}; wait",
        file.display()
    );
    let (status, reason, _) = first_verdict(shell(&script), SHORT).await;
    assert_eq!((status, reason), ("False", "ProbeTimedOut"));
    for id in process_ids(&file, 4).await {
        ended(id).await;
    }
}

#[tokio::test]
async fn children_of_a_program_end_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ids");
    // The grandchild has the program's output open and would keep a reader of it waiting.
    let script = format!("sleep 1000 & echo $! > {}; exit 0", file.display());
    assert_eq!(found(&script).await, (true, "exit status 0".into()));
    for id in process_ids(&file, 1).await {
        ended(id).await;
    }
}

#[tokio::test]
async fn a_reporter_that_stops_takes_its_programs_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ids");
    let check = shell(&format!("sleep 1000 & echo $$ $! > {}; wait", file.display()));
    let server = ApiServer::start(json!([]), &[]).await;
    let probe = ProbeSettings {
        condition_type: writing::CONDITION.into(),
        check,
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(1),
        startup: None,
        timeout: Duration::from_hours(1),
        thresholds: Thresholds { success: 1, failure: 1 },
    };
    let settings = writing::settings([probe]);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(settings, writing::client(&server), stop.clone()));
    let ids = process_ids(&file, 2).await;
    stop.cancel();
    in_time(task).await.unwrap().unwrap();
    for id in ids {
        ended(id).await;
    }
}
