//! Every name that the project writes into a cluster, in one place.

/// API group of the rules.
pub const GROUP: &str = "readiness.node.x-k8s.io";

/// Prefix of the taints that a rule may manage, and of the annotations that the operator keeps on
/// nodes.
pub const TAINT_PREFIX: &str = "readiness.k8s.io/";

/// Second admitted taint prefix: what Cluster Autoscaler takes for a taint that a starting node
/// sheds by itself.
pub const AUTOSCALER_TAINT_PREFIX: &str = "startup-taint.cluster-autoscaler.kubernetes.io/";

/// Finalizer that keeps a deleted rule until no node carries anything of it.
pub const FINALIZER: &str = "readiness.node.x-k8s.io/cleanup-taints";

/// Node annotation with the record of which rule holds or released which taint; see
/// [`Claims`](crate::Claims).
pub const CLAIMS_ANNOTATION: &str = "readiness.k8s.io/rules";

/// Node annotation with the boot of the node, `status.nodeInfo.bootID`, under which its records were made.
/// It is there while a rule asks for it that reboots concern; see [`AfterReboot`](crate::AfterReboot).
pub const BOOT_ID_ANNOTATION: &str = "readiness.k8s.io/boot-id";

/// Prefix of the node annotation that says a bootstrap-only rule is done with a node. The rest is
/// the rule's uid, or its name where an older controller wrote it.
pub const BOOTSTRAP_COMPLETED_PREFIX: &str = "readiness.k8s.io/bootstrap-completed-";

/// Name under which the operator writes objects and events.
pub const CONTROLLER_NAME: &str = "node-readiness-controller";

/// The Lease by which operators agree who of them writes, in the operator's own namespace. The Go
/// project's controller has the same, so that the two never write at the same time.
pub const LEASE_NAME: &str = "ba65f13e.readiness.node.x-k8s.io";

/// Value of `app.kubernetes.io/managed-by` on everything that the operator generates.
pub const MANAGED_BY: &str = "node-readiness-operator";

/// The recommended label that names the tool which manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Label on everything generated for a rule: the rule's uid. A uid always fits a label value, a
/// rule's name need not.
pub const RULE_UID_LABEL: &str = "readiness.k8s.io/rule-uid";

/// Annotation on everything generated for a rule: the rule's name, for people.
pub const RULE_NAME_ANNOTATION: &str = "readiness.k8s.io/rule-name";

/// Annotation on everything generated for a rule: a digest of what was generated. It shows edits,
/// and on a pod template it is what restarts the pods when their configuration changes.
pub const DIGEST_ANNOTATION: &str = "readiness.k8s.io/digest";

/// Where a reporter finds its [`ReporterConfig`](crate::ReporterConfig).
pub const REPORTER_CONFIG_DIR: &str = "/etc/node-readiness";

/// File name of the [`ReporterConfig`](crate::ReporterConfig) in its ConfigMap and directory.
pub const REPORTER_CONFIG_FILE: &str = "config.json";

/// Where a reporter's container has the node's directories that its `file` and `unixSocket` probes look
/// into: a path of the node is below this directory as it is below the node's root.
pub const HOST_ROOT: &str = "/host";

/// Name of the reporter's program, in its image's root directory and where an init container brings
/// it to.
pub const REPORTER_PROGRAM: &str = "node-readiness-reporter";

/// A small directory of its own that a reporter can write to, in memory.
pub const REPORTER_RUN_DIR: &str = "/run/node-readiness";

/// File in [`REPORTER_RUN_DIR`] by which a reporter shows its liveness.
pub const REPORTER_LIVENESS_FILE: &str = "liveness";

/// Environment variable with the name of the node that a reporter runs on.
pub const NODE_NAME_ENV: &str = "NODE_NAME";

/// Environment variable with the address of the node that a reporter runs on, for probes with
/// [`ProbeAddress::Node`](crate::ProbeAddress::Node).
pub const NODE_ADDRESS_ENV: &str = "NODE_ADDRESS";

/// Conditions that kubelet and the cloud's route controller own. A probe may not write them.
pub const KUBELET_CONDITIONS: [&str; 5] =
    ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
