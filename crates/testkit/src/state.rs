//! The record of started processes and of changes on the machine. Changes are recorded before they are made, so after
//! a killed run the next `up` or `down` can clean up.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files,
    identity::ProcessIdentity,
};

/// A process of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartedProcess {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) identity: ProcessIdentity,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    processes: Vec<StartedProcess>,
    nodes: Vec<String>,
    sysctls: BTreeMap<PathBuf, String>,
}

/// The record together with its file.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    record: Record,
}

impl State {
    /// Returns the record of a cluster, or an empty one if there is no file.
    pub(crate) fn load(path: PathBuf) -> Result<Self> {
        let record = if path.exists() {
            serde_json::from_str(&files::read(&path)?).map_err(|error| Error::Unexpected {
                path: path.clone(),
                reason: format!("{error}; remove it"),
            })?
        } else {
            Record::default()
        };
        Ok(Self { path, record })
    }

    /// Records a started process.
    pub(crate) fn add_process(&mut self, name: &str, identity: ProcessIdentity) -> Result<()> {
        self.record.processes.push(StartedProcess { name: name.to_owned(), identity });
        self.save()
    }

    /// Removes a process from the record before it is ended, and returns its identity.
    pub(crate) fn take_process(&mut self, name: &str) -> Result<Option<ProcessIdentity>> {
        let Some(at) = self.record.processes.iter().position(|process| process.name == name) else {
            return Ok(None);
        };
        let process = self.record.processes.remove(at);
        self.save()?;
        Ok(Some(process.identity))
    }

    /// Records nodes before they are created.
    pub(crate) fn add_nodes(&mut self, names: impl IntoIterator<Item = String>) -> Result<()> {
        self.record.nodes.extend(names);
        self.save()
    }

    /// Records the values of kernel settings before a kubelet changes them.
    pub(crate) fn add_sysctls(&mut self, sysctls: BTreeMap<PathBuf, String>) -> Result<()> {
        self.record.sysctls.extend(sysctls);
        self.save()
    }

    /// Returns the started processes, in order.
    pub(crate) fn processes(&self) -> &[StartedProcess] {
        &self.record.processes
    }

    /// Returns the names of the nodes. A cluster with only a control plane has none.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.record.nodes
    }

    /// Returns the kernel settings to restore.
    pub(crate) fn sysctls(&self) -> &BTreeMap<PathBuf, String> {
        &self.record.sysctls
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.record).map_err(|error| Error::Render {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        files::replace(&self.path, text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_later_run_reads_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let identity = ProcessIdentity::of(std::process::id()).unwrap();

        let mut state = State::load(path.clone()).unwrap();
        state.add_nodes(["node-a".to_owned()]).unwrap();
        state.add_process("etcd", identity.clone()).unwrap();

        let read = State::load(path).unwrap();
        assert_eq!(read.nodes(), ["node-a"]);
        assert_eq!(read.processes(), [StartedProcess { name: "etcd".to_owned(), identity }]);
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        std::fs::write(&path, "{").unwrap();

        let message = State::load(path.clone()).unwrap_err().to_string();
        assert!(message.starts_with(path.to_str().unwrap()), "{message}");
    }
}
