//! Every name that the project writes into a cluster.

/// API group of the rules.
pub const GROUP: &str = "readiness.node.x-k8s.io";

/// Prefix of the taints that a rule may manage, and of the operator's annotations on nodes.
pub const TAINT_PREFIX: &str = "readiness.k8s.io/";

/// The second permitted taint prefix, by which Cluster Autoscaler recognizes startup taints.
pub const AUTOSCALER_TAINT_PREFIX: &str = "startup-taint.cluster-autoscaler.kubernetes.io/";

/// Finalizer that keeps a deleted rule until no node carries its taint or record.
pub const FINALIZER: &str = "readiness.node.x-k8s.io/cleanup-taints";

/// Node annotation with the record of claims; see [`Claims`](crate::Claims).
pub const CLAIMS_ANNOTATION: &str = "readiness.k8s.io/rules";

/// Node annotation with the boot id of the node (`status.nodeInfo.bootID`) at the time of its last record. It
/// exists while a rule depends on reboots; see [`AfterReboot`](crate::AfterReboot).
pub const BOOT_ID_ANNOTATION: &str = "readiness.k8s.io/boot-id";

/// Prefix of the node annotation of a completed bootstrap-only rule. The rest is the rule's uid, or its name if
/// an older controller wrote it.
pub const BOOTSTRAP_COMPLETED_PREFIX: &str = "readiness.k8s.io/bootstrap-completed-";

/// The operator's field manager, and its name in events.
pub const CONTROLLER_NAME: &str = "node-readiness-controller";

/// The Lease of leader election, in the operator's own namespace. The Go project's controller uses the same, so
/// the two never write at the same time.
pub const LEASE_NAME: &str = "ba65f13e.readiness.node.x-k8s.io";

/// Value of `app.kubernetes.io/managed-by` on every generated object.
pub const MANAGED_BY: &str = "node-readiness-operator";

/// The recommended label for the tool that manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Label with the name of the reporter set on every generated object of one.
pub const REPORTER_SET_LABEL: &str = "readiness.k8s.io/reporter-set";

/// Label with a rule's uid on every object that version 0.1 generated. It generated reporters for each rule.
pub const RULE_UID_LABEL: &str = "readiness.k8s.io/rule-uid";

/// Annotation with a digest of the generated object. It shows edits.
pub const DIGEST_ANNOTATION: &str = "readiness.k8s.io/digest";

/// The key of the [`ReporterConfig`](crate::ReporterConfig) in its ConfigMap.
pub const REPORTER_CONFIG_KEY: &str = "config.json";

/// The directory in a reporter's container below which the node's directories are mounted, with the same paths
/// as on the node.
pub const HOST_ROOT: &str = "/host";

/// Name of the reporter's program, in its image's root directory and in the directory of the init container.
pub const REPORTER_PROGRAM: &str = "node-readiness-reporter";

/// A small directory in memory that a reporter can write to.
pub const REPORTER_RUN_DIR: &str = "/run/node-readiness";

/// The liveness file, in [`REPORTER_RUN_DIR`].
pub const REPORTER_LIVENESS_FILE: &str = "liveness";

/// Environment variable with the name of a reporter's node.
pub const NODE_NAME_ENV: &str = "NODE_NAME";

/// Environment variable with the address of a reporter's node, for probes with
/// [`ProbeAddress::Node`](crate::ProbeAddress::Node).
pub const NODE_ADDRESS_ENV: &str = "NODE_ADDRESS";

/// Conditions of kubelet and the cloud's route controller. A probe may not write them.
pub const KUBELET_CONDITIONS: [&str; 5] =
    ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
