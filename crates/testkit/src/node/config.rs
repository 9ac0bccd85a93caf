//! The configuration of a node's containerd, pod network and kubelet, as text.

use std::path::Path;

use serde_json::{Value, json};

use super::Node;
use crate::{cgroup, pki::Credentials, spec::StartupTaint};

/// containerd's socket, inside the node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// The name of the image of the pods' sandboxes. It exists only in this cluster.
pub(super) const SANDBOX_IMAGE: &str = "node-readiness/sandbox:local";

/// Returns the configuration of containerd 1.6.
///
/// The `native` snapshotter copies files, while `overlayfs` mounts them. Copies also work in a container whose own
/// root is an overlay, and each image here is one small file. `restrict_oom_score_adj` is set because root lacks
/// `CAP_SYS_RESOURCE` in many virtual machines and containers, and then may not lower its own value.
pub(super) fn containerd(root: &Path, cni_config: &Path, cni_plugins: &Path) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.overlayfs",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{cni_config}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        root = root.display(),
        sandbox = crate::image::normalised(SANDBOX_IMAGE),
        cni_plugins = cni_plugins.display(),
        cni_config = cni_config.display(),
    )
}

/// Returns the configuration of the pod network: a pair of interfaces for each pod, masqueraded behind the node's
/// address.
pub(super) fn pod_network(pod_range: &str) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "node-readiness",
        "plugins": [{
            "type": "ptp",
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": pod_range }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// Returns kubelet's configuration.
pub(super) fn kubelet(
    node: &Node,
    authority: &Path,
    server: &Credentials,
    resolv_conf: &Path,
    taints: &[StartupTaint],
) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": authority },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": server.certificate,
        "tlsPrivateKeyFile": server.key,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "registerWithTaints": taints,
        // No DNS server runs, but without an address kubelet warns about every pod.
        "clusterDNS": ["10.77.1.10"],
        "clusterDomain": "cluster.local",
        "resolvConf": resolv_conf,
        // Several kubelets share this kernel, and each has its own part of the cgroup tree.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::root_of(&node.name),
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        // kubelet must not remove images, because they were imported and cannot be pulled again. It must not evict
        // pods either because a developer's disk is full.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "shutdownGracePeriod": "0s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::nth(1)
    }

    #[test]
    fn kubelet_registers_with_the_startup_taints() {
        let server = Credentials { certificate: "/s.crt".into(), key: "/s.key".into() };
        let taints = [StartupTaint::network_ready()];
        let config =
            kubelet(&node(), Path::new("/ca.crt"), &server, Path::new("/resolv.conf"), &taints);

        let expected = json!([{
            "key": "readiness.k8s.io/NetworkReady", "value": "pending", "effect": "NoSchedule",
        }]);
        assert_eq!(config["registerWithTaints"], expected);
        assert_eq!(config["cgroupRoot"], "/node-readiness/node-b");
        assert_eq!(config["address"], "10.77.2.2");
    }

    #[test]
    fn containerds_configuration_has_the_full_name_of_the_sandbox_image() {
        let config = containerd(Path::new("/root-dir"), Path::new("/cni"), Path::new("/plugins"));
        assert!(
            config.contains("sandbox_image = \"docker.io/node-readiness/sandbox:local\""),
            "{config}"
        );
        assert!(config.contains("root = \"/root-dir\""), "{config}");
    }
}
