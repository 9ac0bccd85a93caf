//! Control groups. A kubelet measures and limits resources below one root group. Nodes share the kernel, so each needs
//! its own root group, `/node-readiness/<node>`.
//!
//! With cgroup v1 every hierarchy needs the group. With v2 there is one hierarchy, in which each group must enable
//! controllers for its children.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    files,
};

/// The parent of all nodes' groups, relative to a hierarchy's root.
const PARENT: &str = "node-readiness";

/// The controllers of v2 with which kubelet and runc set limits.
const USED_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// Returns kubelet's `cgroupRoot`.
pub(crate) fn root_of(node: &str) -> String {
    format!("/{PARENT}/{node}")
}

/// The kernel's mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    mounts: Vec<Hierarchy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    path: PathBuf,
    /// Its controllers in v1. `None` in v2, where a file lists them.
    v1_controllers: Option<Vec<String>>,
}

impl Hierarchies {
    /// Returns the hierarchies that are mounted now.
    pub(crate) fn mounted() -> Result<Self> {
        Ok(Self::parse(&files::read(Path::new("/proc/self/mountinfo"))?))
    }

    /// Reads the lines of `/proc/self/mountinfo`, see proc(5).
    fn parse(mountinfo: &str) -> Self {
        let mounts = mountinfo.lines().filter_map(Hierarchy::parse).collect();
        Self { mounts }
    }

    /// Fails if kubelet cannot work with the hierarchies.
    pub(crate) fn check(&self) -> Result<()> {
        let has_memory = self.mounts.iter().any(|hierarchy| match &hierarchy.v1_controllers {
            Some(controllers) => controllers.iter().any(|controller| controller == "memory"),
            None => fs::read_to_string(hierarchy.path.join("cgroup.controllers")).is_ok_and(
                |controllers| controllers.split_whitespace().any(|name| name == "memory"),
            ),
        });
        if has_memory { Ok(()) } else { Err(Error::NoCgroups) }
    }

    /// Creates the node's group in every hierarchy.
    pub(crate) fn create(&self, node: &str) -> Result<()> {
        for hierarchy in &self.mounts {
            let parent = hierarchy.path.join(PARENT);
            let group = parent.join(node);
            files::create_dir(&group)?;
            match &hierarchy.v1_controllers {
                Some(controllers) if controllers.iter().any(|name| name == "cpuset") => {
                    copy_cpuset(&hierarchy.path, &parent)?;
                    copy_cpuset(&parent, &group)?;
                }
                Some(_) => {}
                None => {
                    for level in [&hierarchy.path, &parent, &group] {
                        hand_down_controllers(level)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes the node's group and all groups below it. They must contain no processes.
    pub(crate) fn remove(&self, node: &str) -> Result<()> {
        for hierarchy in &self.mounts {
            let parent = hierarchy.path.join(PARENT);
            remove_tree(&parent.join(node))?;
            // Other nodes' groups may still exist. The removal of the last one also removes the parent.
            let _ = fs::remove_dir(&parent);
        }
        Ok(())
    }
}

impl Hierarchy {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let path = PathBuf::from(mount.split(' ').nth(4)?);
        let mut file_system = file_system.split(' ');
        let v1_controllers = match file_system.next()? {
            "cgroup2" => None,
            "cgroup" => Some(file_system.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Self { path, v1_controllers })
    }
}

/// Copies the processors and memory nodes of a cpuset of v1, because a new cpuset has none.
fn copy_cpuset(from: &Path, to: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        files::write(&to.join(file), files::read(&from.join(file))?)?;
    }
    Ok(())
}

/// Enables the controllers that kubelet uses for the children of a v2 group, as far as the group has them itself.
fn hand_down_controllers(group: &Path) -> Result<()> {
    let available = files::read(&group.join("cgroup.controllers"))?;
    for controller in available.split_whitespace().filter(|name| USED_CONTROLLERS.contains(name)) {
        files::write(&group.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}

/// Removes a group after the groups below it. The files in a group belong to the kernel.
fn remove_tree(group: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group).map_err(files::failed("remove", group))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    const HYBRID: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
29 28 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 28 0:28 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset
36 28 0:33 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
37 28 0:34 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_of_both_versions_are_found_in_mountinfo() {
        let hierarchies = Hierarchies::parse(HYBRID);
        let found: Vec<_> = hierarchies
            .mounts
            .iter()
            .map(|hierarchy| (hierarchy.path.to_str().unwrap(), hierarchy.v1_controllers.is_some()))
            .collect();
        let expected = [
            ("/sys/fs/cgroup/cpu", true),
            ("/sys/fs/cgroup/cpuset", true),
            ("/sys/fs/cgroup/systemd", true),
            ("/sys/fs/cgroup/unified", false),
        ];
        assert_eq!(found, expected);
        let cpuset = hierarchies.mounts[1].v1_controllers.as_ref().unwrap();
        assert!(cpuset.iter().any(|controller| controller == "cpuset"));
    }

    #[test]
    fn a_cpuset_gets_the_processors_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cpuset.cpus"), "0-1").unwrap();
        fs::write(dir.path().join("cpuset.mems"), "0").unwrap();
        let line = format!("31 28 0:28 / {} rw - cgroup cgroup rw,cpuset", dir.path().display());

        Hierarchies::parse(&line).create("node-a").unwrap();
        let group = dir.path().join("node-readiness/node-a");
        assert_eq!(fs::read_to_string(group.join("cpuset.cpus")).unwrap(), "0-1");
        assert_eq!(fs::read_to_string(group.join("cpuset.mems")).unwrap(), "0");
    }

    #[test]
    fn groups_are_removed_after_their_children_and_other_groups_stay() {
        let dir = tempfile::tempdir().unwrap();
        let line =
            format!("36 28 0:33 / {} rw - cgroup cgroup rw,name=systemd", dir.path().display());
        let hierarchies = Hierarchies::parse(&line);
        hierarchies.create("node-a").unwrap();
        hierarchies.create("node-b").unwrap();
        fs::create_dir_all(dir.path().join("node-readiness/node-a/kubepods/besteffort/pod1"))
            .unwrap();

        hierarchies.remove("node-a").unwrap();
        assert!(!dir.path().join("node-readiness/node-a").exists());
        assert!(dir.path().join("node-readiness/node-b").exists());
        hierarchies.remove("node-b").unwrap();
        assert!(!dir.path().join("node-readiness").exists());
    }
}
