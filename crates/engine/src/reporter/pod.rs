//! The pods of a set's reporters. They have only what they need to probe and to write.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, ObjectFieldSelector,
    PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
    Toleration, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use node_readiness_api::{
    NODE_ADDRESS_ENV, NODE_NAME_ENV, REPORTER_LIVENESS_FILE, REPORTER_PROGRAM, REPORTER_RUN_DIR,
    ReporterAccess, ReporterOptions, ReporterResources,
};

use super::volumes::{self, Mounted, PROGRAM_DIR};
use super::{ReporterSet, Settings, host_paths, placement};

/// Names of the container and the init container.
const CONTAINER: &str = "reporter";
const INSTALLER: &str = "install";

/// By default Kubernetes pulls an image with the tag `latest` each time, which fails for images that were
/// loaded into the nodes.
const PULL_POLICY: &str = "IfNotPresent";

/// The user id of `nonroot` in distroless images, which needs no entry in a passwd file.
const NON_ROOT: i64 = 65532;

pub(super) fn pod_spec(set: &ReporterSet, settings: &Settings) -> PodSpec {
    let options = &set.options;
    let pull_secrets =
        (!options.image_pull_secrets.is_empty()).then(|| options.image_pull_secrets.clone());
    let priority = options.priority_class_name.as_deref().unwrap_or("system-node-critical");
    let user = options.run_as_user.unwrap_or(NON_ROOT);
    let directories = host_paths::directories(set.probes());
    let mut mounted = vec![volumes::run()];
    mounted.extend(options.image.is_some().then(volumes::program));
    mounted.extend(volumes::of_host(&directories));
    let (volumes, mounts) =
        mounted.into_iter().map(|Mounted { volume, mount }| (volume, mount)).unzip();
    PodSpec {
        service_account_name: Some(set.name.clone()),
        // The ServiceAccount turns this off, so that no other pod gets the token by accident.
        automount_service_account_token: Some(true),
        init_containers: options.image.is_some().then(|| vec![installer(settings)]),
        containers: vec![container(set, settings, &directories, mounts)],
        host_network: options.host_network.then_some(true),
        // With the node's network, the pod uses the node's resolver.
        dns_policy: Some(if options.host_network { "Default" } else { "ClusterFirst" }.to_owned()),
        enable_service_links: Some(false),
        node_selector: Some(placement::node_selector()),
        affinity: Some(placement::affinity(set.rules.iter().map(|rule| &rule.node_selector))),
        tolerations: Some(options.tolerations.clone().unwrap_or_else(tolerate_everything)),
        priority_class_name: Some(priority.to_owned()),
        image_pull_secrets: pull_secrets,
        termination_grace_period_seconds: Some(5),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(user != 0),
            run_as_user: Some(user),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn container(
    set: &ReporterSet,
    settings: &Settings,
    directories: &[&str],
    mounts: Vec<VolumeMount>,
) -> Container {
    let options = &set.options;
    let directory = if options.image.is_some() { PROGRAM_DIR } else { "" };
    let program = format!("{directory}/{REPORTER_PROGRAM}");
    let liveness_file = format!("{REPORTER_RUN_DIR}/{REPORTER_LIVENESS_FILE}");
    Container {
        name: CONTAINER.to_owned(),
        image: Some(options.image.clone().unwrap_or_else(|| settings.image.clone())),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(vec![program.clone()]),
        args: Some(arguments(set, settings, directories, &liveness_file)),
        liveness_probe: Some(liveness(vec![program, format!("--check-liveness={liveness_file}")])),
        env: Some(vec![
            pod_field(NODE_NAME_ENV, "spec.nodeName"),
            pod_field(NODE_ADDRESS_ENV, "status.hostIP"),
        ]),
        ports: metrics_port(options),
        resources: Some(options.resources.clone().map_or_else(resources, requirements)),
        security_context: Some(least_privilege()),
        volume_mounts: Some(mounts),
        // The reporter writes a termination message. If it is killed, Kubernetes uses its log instead.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Returns the program's arguments: what is the same for the whole life of a pod. What may change is in the
/// configuration.
fn arguments(
    set: &ReporterSet,
    settings: &Settings,
    directories: &[&str],
    liveness_file: &str,
) -> Vec<String> {
    let mut arguments = vec![
        format!("--config-map={}/{}", settings.namespace, set.name),
        format!("--liveness-file={liveness_file}"),
    ];
    if set.options.access == ReporterAccess::ConstrainedImpersonation {
        arguments.push("--impersonate-node".to_owned());
    }
    arguments.extend(set.options.metrics_port.map(|port| format!("--metrics-port={port}")));
    arguments.extend(directories.iter().map(|directory| format!("--host-path={directory}")));
    arguments
}

/// Returns an environment variable with a field of the pod.
fn pod_field(name: &str, field_path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector { field_path: field_path.to_owned(), api_version: None };
    let source = EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), value: None }
}

/// Returns the port for metrics, if it is the pod's own. On the host network the pod does not declare it: the
/// scheduler never places two pods with the same host port on a node, so the reporters of a second set with that
/// port would never start. The reporter itself runs without metrics if the port is in use.
fn metrics_port(options: &ReporterOptions) -> Option<Vec<ContainerPort>> {
    let port = options.metrics_port.filter(|_| !options.host_network)?;
    Some(vec![ContainerPort {
        name: Some("metrics".to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }])
}

/// Returns the liveness probe. It checks that the process is not stuck; a hanging probe does not make it stuck.
/// Starting the program once a minute costs less than a listener, and uses no port of the node.
fn liveness(command: Vec<String>) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(command) }),
        initial_delay_seconds: Some(60),
        period_seconds: Some(60),
        timeout_seconds: Some(10),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// Returns the init container that copies the reporter's program into a custom image.
fn installer(settings: &Settings) -> Container {
    let Mounted { mount, .. } = volumes::program();
    Container {
        name: INSTALLER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        args: Some(vec![format!("--install={PROGRAM_DIR}")]),
        resources: Some(resources()),
        security_context: Some(least_privilege()),
        volume_mounts: Some(vec![VolumeMount { read_only: None, ..mount }]),
        ..Container::default()
    }
}

fn least_privilege() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn requirements(resources: ReporterResources) -> ResourceRequirements {
    let ReporterResources { requests, limits } = resources;
    let set = |amounts: BTreeMap<_, _>| (!amounts.is_empty()).then_some(amounts);
    ResourceRequirements { requests: set(requests), limits: set(limits), claims: None }
}

/// Returns the default resources: a few times the measured use of a reporter, without a CPU limit, because a
/// throttled probe would time out.
fn resources() -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), quantity("5m")),
            ("memory".to_owned(), quantity("16Mi")),
        ])),
        limits: Some(BTreeMap::from([("memory".to_owned(), quantity("64Mi"))])),
        claims: None,
    }
}

/// Returns the default toleration. A reporter must run on nodes that are not ready yet, so it tolerates every
/// taint.
fn tolerate_everything() -> Vec<Toleration> {
    vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]
}
