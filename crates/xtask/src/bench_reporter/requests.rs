//! The requests of reporters, from the API server's log.
//!
//! Its metrics do not show who sent a request. From verbosity 3 on it logs each request with its user agent when it has
//! answered it.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use node_readiness_testkit::Layout;

use crate::kubectl::Kubectl;

/// The path that sets the verbosity of a running API server.
const VERBOSITY: &str = "/debug/flags/v";

const USER_AGENT: &str = "userAgent=\"node-readiness-reporter/";

/// Counts requests from its start on.
pub(super) struct Counter<'a> {
    kubectl: &'a Kubectl,
    log: PathBuf,
    begin: u64,
}

/// The requests of reporters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) all: u64,
    pub(super) writes: u64,
}

impl<'a> Counter<'a> {
    pub(super) fn start(kubectl: &'a Kubectl, layout: &Layout) -> anyhow::Result<Self> {
        let log = layout.log().join("kube-apiserver.log");
        kubectl.run(&["replace", "--raw", VERBOSITY, "-f", "-"], "3")?;
        let begin = log.metadata()?.len();
        Ok(Self { kubectl, log, begin })
    }

    pub(super) fn end(self) -> anyhow::Result<Requests> {
        self.kubectl.run(&["replace", "--raw", VERBOSITY, "-f", "-"], "1")?;
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.begin))?;
        let mut log = Vec::new();
        file.read_to_end(&mut log)?;
        Ok(count(&String::from_utf8_lossy(&log)))
    }
}

fn count(log: &str) -> Requests {
    let of_reporters = log.lines().filter(|line| line.contains(USER_AGENT));
    of_reporters.fold(Requests::default(), |Requests { all, writes }, line| Requests {
        all: all + 1,
        writes: writes + u64::from(line.contains(" verb=\"PUT\" ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_reporters_count() {
        let line = |verb: &str, agent: &str| {
            format!(
                "I1127 1 httplog.go:134] \"HTTP\" verb=\"{verb}\" URI=\"/x\" userAgent=\"{agent}/0.1.0\" resp=200\n"
            )
        };
        let log = [
            line("GET", "node-readiness-reporter"),
            line("PUT", "node-readiness-reporter"),
            line("GET", "kubelet"),
        ];
        assert_eq!(count(&log.concat()), Requests { all: 2, writes: 1 });
    }
}
