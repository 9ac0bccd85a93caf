//! The directories of the node that a rule's probes access.

use std::collections::BTreeSet;
use std::path::Path;

use node_readiness_api::{Handler, Probe};

/// Returns the directory that contains a path or pattern: the one before the first pattern, or the parent of
/// the path.
pub(super) fn directory(path: &str) -> &str {
    let plain = path.find(['*', '?', '[']).map_or(path, |pattern| &path[..pattern]);
    match plain.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &plain[..end],
    }
}

/// Returns whether a directory is another one, or below it.
pub(super) fn is_below(directory: &str, prefix: &str) -> bool {
    Path::new(directory).starts_with(prefix)
}

/// Returns the directories that probes access, without those below another one.
pub(super) fn directories(probes: &[Probe]) -> Vec<&str> {
    let needed = probes.iter().filter_map(|probe| match &probe.handler {
        Handler::UnixSocket(action) => Some(directory(&action.path)),
        Handler::File(action) => Some(directory(&action.path)),
        Handler::HttpGet(_) | Handler::TcpSocket(_) | Handler::Grpc(_) | Handler::Exec(_) => None,
    });
    let needed: BTreeSet<&str> = needed.collect();
    let covered = |one: &&str| needed.iter().any(|other| other != one && is_below(one, other));
    needed.iter().copied().filter(|one| !covered(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_ends_before_the_first_pattern() {
        for (path, expected) in [
            ("/run/nvidia/ready", "/run/nvidia"),
            ("/run/nvidia/*.ready", "/run/nvidia"),
            ("/run/gpu-*/ready", "/run"),
            ("/run/gpu-[0-9]/a/b?", "/run"),
            ("/ready", "/"),
            ("/*/ready", "/"),
        ] {
            assert_eq!(directory(path), expected, "{path}");
        }
    }

    #[test]
    fn a_prefix_matches_whole_parts_of_a_path() {
        assert!(is_below("/run/nvidia", "/run"));
        assert!(is_below("/run", "/run/"));
        assert!(!is_below("/running", "/run"));
        assert!(is_below("/run", "/"));
    }

    #[test]
    fn a_directory_below_another_is_omitted() {
        let probes: Vec<Probe> = serde_json::from_str(
            r#"[{"conditionType": "a", "file": {"path": "/run/a/b/*"}},
                {"conditionType": "b", "unixSocket": {"path": "/run/a/c.sock"}},
                {"conditionType": "c", "file": {"path": "/run/ab/x"}},
                {"conditionType": "d", "tcpSocket": {"port": 1}}]"#,
        )
        .unwrap();
        assert_eq!(directories(&probes), ["/run/a", "/run/ab"]);
    }
}
