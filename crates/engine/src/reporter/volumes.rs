//! The volumes of the reporters' pods: the liveness file, the program for custom images, and the directories of the
//! node that probes access.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use node_readiness_api::{HOST_ROOT, REPORTER_RUN_DIR};

/// The directory of the reporter's program in a custom image.
pub(super) const PROGRAM_DIR: &str = "/opt/node-readiness";

/// A volume with its mount.
pub(super) struct Mounted {
    pub volume: Volume,
    pub mount: VolumeMount,
}

/// Returns the directory of the liveness file. It is in memory, so it uses no disk of the node.
pub(super) fn run() -> Mounted {
    let source = EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity("1Mi".to_owned())),
        ..EmptyDirVolumeSource::default()
    };
    let volume = Volume { empty_dir: Some(source), ..named("run") };
    let mount = VolumeMount { read_only: None, ..read_only("run", REPORTER_RUN_DIR) };
    Mounted { volume, mount }
}

/// Returns the directory into which an init container copies the program for a custom image.
pub(super) fn program() -> Mounted {
    let source = EmptyDirVolumeSource {
        size_limit: Some(Quantity("32Mi".to_owned())),
        ..EmptyDirVolumeSource::default()
    };
    let volume = Volume { empty_dir: Some(source), ..named("program") };
    Mounted { volume, mount: read_only("program", PROGRAM_DIR) }
}

/// Returns these directories of the node, and no others.
pub(super) fn of_host(directories: &[&str]) -> Vec<Mounted> {
    let directories = directories.iter().enumerate();
    directories
        .map(|(index, directory)| of_directory(&format!("host-{index}"), directory))
        .collect()
}

fn of_directory(name: &str, directory: &str) -> Mounted {
    let source = HostPathVolumeSource {
        path: directory.to_owned(),
        // The probed file or socket may be installed later than the reporter, and the rule's other probes must
        // not wait for it.
        type_: Some("DirectoryOrCreate".to_owned()),
    };
    let place = format!("{HOST_ROOT}{}", directory.trim_end_matches('/'));
    Mounted {
        volume: Volume { host_path: Some(source), ..named(name) },
        mount: VolumeMount {
            // Mounts that are made below it later are visible too.
            mount_propagation: Some("HostToContainer".to_owned()),
            ..read_only(name, &place)
        },
    }
}

fn named(name: &str) -> Volume {
    Volume { name: name.to_owned(), ..Volume::default() }
}

fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}
