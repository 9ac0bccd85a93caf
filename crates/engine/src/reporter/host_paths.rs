//! The directories of the node that probes access.

use std::collections::BTreeSet;

use node_readiness_api::host_path::{directory, is_below};
use node_readiness_api::{Handler, Probe};

/// Returns the directories that probes access, without those below another one.
pub(super) fn directories<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Vec<&'a str> {
    let needed = probes.into_iter().filter_map(|probe| match &probe.handler {
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
