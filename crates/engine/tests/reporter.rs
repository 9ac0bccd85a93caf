//! The objects that are generated for a reporter set of one rule.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::TestRule;
use common::reporters::{self, term, terms};
use k8s_openapi::api::core::v1::PodSpec;
use node_readiness_engine::reporter::{Member, ReporterObjects, ReporterSets};
use serde_json::{Value, json};

fn probing() -> TestRule {
    TestRule::new("cni")
        .spec("probes", json!([{"conditionType": "Ready1", "httpGet": {"port": 9099}}]))
}

fn generated(rule: &TestRule) -> ReporterObjects {
    let object = rule.object();
    let sets = ReporterSets::of(&[Member::Current(&object)], &[].into()).unwrap().sets;
    reporters::generated(&sets[0])
}

fn pod(rule: &TestRule) -> PodSpec {
    generated(rule).daemon_set.spec.template.spec.unwrap()
}

fn pod_of_selector(selector: &Value) -> PodSpec {
    pod(&probing().spec("nodeSelector", selector.clone()))
}

#[test]
fn pods_have_only_what_they_need() {
    let pod = pod(&probing());
    let container = &pod.containers[0];
    let limits = container.security_context.clone().unwrap();
    assert_eq!(limits.read_only_root_filesystem, Some(true));
    assert_eq!(limits.allow_privilege_escalation, Some(false));
    assert_eq!(limits.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    assert!(limits.privileged.is_none() && container.ports.is_none());
    let all = pod.security_context.unwrap();
    assert_eq!((all.run_as_non_root, all.run_as_user), (Some(true), Some(65532)));
    assert_eq!(all.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let volumes = serde_json::to_value(&pod.volumes).unwrap();
    let expected = json!([
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]);
    assert_eq!(volumes, expected);
    assert!(pod.host_pid.is_none() && pod.host_ipc.is_none());
}

#[test]
fn pods_run_on_nodes_that_are_not_ready_yet() {
    let pod = pod(&probing());
    assert_eq!(serde_json::to_value(&pod.tolerations).unwrap(), json!([{"operator": "Exists"}]));
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    assert_eq!(pod.host_network, Some(true));
    assert_eq!(terms(&pod), json!([term(&[json!({"key": "os", "operator": "Exists"})])]));
    assert_eq!(pod.node_selector.unwrap()["kubernetes.io/os"], "linux");
    let everywhere = pod_of_selector(&json!({}));
    assert_eq!(terms(&everywhere), json!([term(&[])]));
}

#[test]
fn labels_of_the_selector_become_requirements_too() {
    let pod = pod_of_selector(&json!({"matchLabels": {"pool": "gpu"}}));
    let gpu = json!({"key": "pool", "operator": "In", "values": ["gpu"]});
    assert_eq!(terms(&pod), json!([term(&[gpu])]));
}

#[test]
fn every_option_of_the_reporter_is_applied() {
    let rule = probing().spec(
        "reporter",
        json!({
            "heartbeatSeconds": 60,
            "hostNetwork": false,
            "imagePullSecrets": [{"name": "pull"}],
            "resources": {"requests": {"cpu": "1m"}},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "priorityClassName": "low",
            "runAsUser": 1000,
            "podLabels": {"team": "net", "app.kubernetes.io/managed-by": "me"},
            "podAnnotations": {"a": "b"},
        }),
    );
    let objects = generated(&rule);
    let config: Value =
        serde_json::from_str(&objects.config_map.data.unwrap()["config.json"]).unwrap();
    assert_eq!(config["rules"][0]["heartbeatSeconds"], 60);
    let template = objects.daemon_set.spec.template;
    let metadata = template.metadata.unwrap();
    let labels = metadata.labels.unwrap();
    assert_eq!(labels["team"], "net");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "node-readiness-operator");
    assert_eq!(metadata.annotations.unwrap()["a"], "b");
    let pod = template.spec.unwrap();
    assert_eq!(pod.host_network, None);
    assert_eq!(pod.dns_policy.as_deref(), Some("ClusterFirst"));
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
    assert_eq!(pod.priority_class_name.as_deref(), Some("low"));
    assert_eq!(pod.security_context.unwrap().run_as_user, Some(1000));
    assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("a"));
    let resources = serde_json::to_value(&pod.containers[0].resources).unwrap();
    assert_eq!(resources, json!({"requests": {"cpu": "1m"}}));
}

#[test]
fn an_edit_of_probes_changes_the_configuration_and_no_pod() {
    let probes = json!([{"conditionType": "Ready1", "httpGet": {"port": 9100}}]);
    let edited = probing().spec("probes", probes);
    let (before, after) = (generated(&probing()), generated(&edited));
    assert_ne!(before.config_map, after.config_map);
    assert_eq!(before.daemon_set, after.daemon_set);
    let (role, binding) = (after.role, after.role_binding);
    let rules = serde_json::to_value(&role.rules).unwrap();
    let expected = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"],
        "resourceNames": ["reporter"]}]);
    assert_eq!(rules, expected);
    assert_eq!(binding.role_ref.name, "reporter");
    assert_eq!(role.metadata.namespace.as_deref(), Some("reporters"));
}

#[test]
fn without_impersonation_a_policy_limits_what_rbac_grants() {
    let rule = probing().spec("reporter", json!({"access": "AdmissionPolicy"}));
    let objects = generated(&rule);
    let bound = objects.policy.unwrap();
    let set = objects.daemon_set.metadata.name.unwrap();
    let name = format!("nrr-{set}-own-conditions");
    assert_eq!(bound.policy.metadata.name.as_ref(), Some(&name));
    assert_eq!(bound.binding.spec.policy_name, name);
    let policy = serde_json::to_value(&bound.policy.spec).unwrap();
    let whose = format!("request.userInfo.username == 'system:serviceaccount:reporters:{set}'");
    assert_eq!(policy["matchConditions"][0]["expression"], whose);
    assert_eq!(policy["variables"][0], json!({"name": "types", "expression": "[\"Ready1\"]"}));
    assert_eq!(policy["failurePolicy"], "Fail");
    let [granted] = &objects.cluster_roles[..] else { panic!("{:?}", objects.cluster_roles) };
    let rules = serde_json::to_value(&granted.rules).unwrap();
    let expected = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["update"]},
    ]);
    assert_eq!(rules, expected);
    assert!(generated(&probing()).policy.is_none());
}

#[test]
fn a_stuck_process_is_detected_without_a_port() {
    let pod = pod(&probing());
    let container = serde_json::to_value(&pod.containers[0]).unwrap();
    let command = &container["livenessProbe"]["exec"]["command"];
    let file = "/run/node-readiness/liveness";
    assert_eq!(command, &json!(["/node-readiness-reporter", format!("--check-liveness={file}")]));
    assert_eq!(container["args"][1], format!("--liveness-file={file}"));
    let mount = json!({"name": "run", "mountPath": "/run/node-readiness"});
    assert!(container["volumeMounts"].as_array().unwrap().contains(&mount));
}

#[test]
fn only_needed_directories_of_the_node_are_mounted_and_read_only() {
    let rule = TestRule::new("cni").spec(
        "probes",
        json!([
            {"conditionType": "Ready1", "file": {"path": "/run/gpu/*.ready"}},
            {"conditionType": "Ready2", "unixSocket": {"path": "/run/gpu/socks/a.sock"}},
            {"conditionType": "Ready3", "tcpSocket": {"port": 1}},
        ]),
    );
    let pod = pod(&rule);
    let volumes = serde_json::to_value(&pod.volumes).unwrap();
    let host: Vec<_> =
        volumes.as_array().unwrap().iter().filter(|v| v.get("hostPath").is_some()).collect();
    let source = json!({"path": "/run/gpu", "type": "DirectoryOrCreate"});
    assert_eq!(host, [&json!({"name": "host-0", "hostPath": source})]);
    let mounts = serde_json::to_value(&pod.containers[0].volume_mounts).unwrap();
    let mount = mounts.as_array().unwrap().iter().find(|m| m["name"] == "host-0").unwrap();
    assert_eq!(mount["mountPath"], "/host/run/gpu");
    let arguments = pod.containers[0].args.as_ref().unwrap();
    assert!(arguments.contains(&"--host-path=/run/gpu".to_owned()), "{arguments:?}");
    assert_eq!(mount["readOnly"], true);
}

#[test]
fn an_init_container_copies_the_program_into_a_custom_image() {
    let rule = probing().spec("reporter", json!({"image": "tools:1"}));
    let pod = pod(&rule);
    let installer = &pod.init_containers.unwrap()[0];
    assert_eq!(installer.image.as_deref(), Some("reporter:test"));
    assert_eq!(installer.args.as_deref().unwrap(), ["--install=/opt/node-readiness"]);
    let container = &pod.containers[0];
    assert_eq!(container.image.as_deref(), Some("tools:1"));
    for container in [installer, container] {
        assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
    }
    let program = "/opt/node-readiness/node-readiness-reporter";
    assert_eq!(container.command.as_deref().unwrap(), [program]);
    for limits in [&installer.security_context, &container.security_context] {
        let limits = limits.clone().unwrap();
        assert_eq!(limits.allow_privilege_escalation, Some(false));
        assert_eq!(limits.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    }
}

#[test]
fn a_port_for_metrics_on_the_host_network_blocks_no_other_pod() {
    let options = |host_network: bool| json!({"metricsPort": 9200, "hostNetwork": host_network});
    let ports = |host_network| {
        pod(&probing().spec("reporter", options(host_network))).containers[0].ports.clone()
    };
    // The scheduler never places two pods with the same host port on a node, so the reporters of a second set with
    // that port would never start.
    assert_eq!(ports(true), None);
    let of_the_pod = &ports(false).unwrap()[0];
    assert_eq!((of_the_pod.container_port, of_the_pod.host_port), (9200, None));
}
