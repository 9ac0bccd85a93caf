//! The objects that are generated for a rule with probes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{TestNode, TestRule};
use k8s_openapi::api::core::v1::PodSpec;
use node_readiness_api::DIGEST_ANNOTATION;
use node_readiness_engine::reporter::{
    Allowances, MaxUnavailable, Outcome, ReporterObjects, Settings, Share, generate,
};
use node_readiness_engine::{Node, RuleSet};
use serde_json::{Value, json};

fn probing() -> TestRule {
    TestRule::new("cni")
        .spec("probes", json!([{"conditionType": "Ready1", "httpGet": {"port": 9099}}]))
}

fn settings() -> Settings {
    Settings {
        namespace: "reporters".into(),
        image: "reporter:test".into(),
        allowances: Allowances::default(),
    }
}

fn generated(rule: &TestRule) -> Option<ReporterObjects> {
    generate(&rule.object(), &settings(), &Share::alone(&rule.compile()), MaxUnavailable::default())
        .unwrap()
}

fn pod(rule: &TestRule) -> PodSpec {
    generated(rule).unwrap().daemon_set.spec.template.spec.unwrap()
}

fn pod_of_selector(selector: &Value) -> PodSpec {
    pod(&probing().spec("nodeSelector", selector.clone()))
}

/// The terms of a pod's node affinity.
fn terms_of_pod(pod: &PodSpec) -> Value {
    let affinity = serde_json::to_value(&pod.affinity).unwrap();
    affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        .clone()
}

/// These requirements, and the ones that exclude virtual nodes.
fn on_machines(requirements: &[Value]) -> Value {
    let mut all = requirements.to_vec();
    for (key, value) in [("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate")]
    {
        all.push(json!({"key": key, "operator": "NotIn", "values": [value]}));
    }
    json!(all)
}

fn template_digest(rule: &TestRule) -> String {
    let template = generated(rule).unwrap().daemon_set.spec.template;
    template.metadata.unwrap().annotations.unwrap()[DIGEST_ANNOTATION].clone()
}

#[test]
fn a_rule_without_probes_and_a_deleted_rule_have_no_reporters() {
    assert!(generated(&TestRule::new("cni")).is_none());
    assert!(generated(&probing().deleting()).is_none());
    // No node can match, and the API server refuses an affinity without terms.
    let nowhere = probing().spec(
        "nodeSelector",
        json!({"matchLabels": {"a": "x"}, "matchExpressions": [
            {"key": "a", "operator": "NotIn", "values": ["x"]},
        ]}),
    );
    assert!(generated(&nowhere).is_none());
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
        {"name": "config", "configMap": {"name": "reporter-cni"}},
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
    let expected = json!([{"matchExpressions": on_machines(&[
        json!({"key": "os", "operator": "Exists"}),
    ])}]);
    assert_eq!(terms_of_pod(&pod), expected);
    assert_eq!(pod.node_selector.unwrap()["kubernetes.io/os"], "linux");
    let everywhere = pod_of_selector(&json!({}));
    assert_eq!(terms_of_pod(&everywhere), json!([{"matchExpressions": on_machines(&[])}]));
}

#[test]
fn labels_of_the_selector_become_requirements_too() {
    let pod = pod_of_selector(&json!({"matchLabels": {"pool": "gpu"}}));
    let expected = on_machines(&[json!({"key": "pool", "operator": "In", "values": ["gpu"]})]);
    assert_eq!(terms_of_pod(&pod)[0]["matchExpressions"], expected);
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
    let objects = generated(&rule).unwrap();
    let config: Value =
        serde_json::from_str(&objects.config_map.data.unwrap()["config.json"]).unwrap();
    assert_eq!(config["heartbeatSeconds"], 60);
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
fn pods_restart_when_their_configuration_changes_and_only_then() {
    let before = template_digest(&probing());
    assert_eq!(template_digest(&probing().spec("dryRun", json!(true))), before);
    let probes = json!([{"conditionType": "Ready1", "httpGet": {"port": 9100}}]);
    assert_ne!(template_digest(&probing().spec("probes", probes)), before);
}

/// A rule that selects nodes by this and probes these conditions.
fn rule(name: &str, selector: &Value, conditions: &[&str]) -> TestRule {
    let probe = |type_: &&str| json!({"conditionType": type_, "httpGet": {"port": 9099}});
    TestRule::new(name)
        .spec("nodeSelector", json!({"matchExpressions": selector}))
        .spec("probes", conditions.iter().map(probe).collect())
}

fn linux() -> Value {
    json!([{"key": "os", "operator": "Exists"}])
}

fn pool() -> Value {
    json!([{"key": "pool", "operator": "Exists"}])
}

/// What is left to a rule by older ones.
fn share(younger: &TestRule, older: &[TestRule], nodes: &[TestNode]) -> Share {
    let older = older.iter().map(|rule| rule.clone().created("2025-01-01T00:00:00Z").compile());
    let rules = RuleSet::new(older.chain([younger.compile()]), []);
    let nodes: Vec<Node> = nodes.iter().map(TestNode::view).collect();
    Share::of(&younger.compile(), rules.iter(), &nodes.iter().collect::<Vec<_>>())
}

fn outcomes(share: &Share) -> Vec<(&str, Outcome)> {
    share.conflicts.iter().map(|(condition, c)| (condition.as_str(), c.outcome)).collect()
}

fn terms(share: &Share) -> Value {
    let affinity = serde_json::to_value(share.nodes.affinity()).unwrap();
    affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        .clone()
}

#[test]
fn of_two_rules_that_probe_one_condition_only_the_younger_gives_way() {
    let (cni, csi) = (rule("cni", &linux(), &["A"]), rule("csi", &linux(), &["A"]));
    let rules = RuleSet::new([cni.compile(), csi.compile()], []);
    let of = |rule: &TestRule| Share::of::<&Node>(&rule.compile(), rules.iter(), &[]);
    // They are of the same second, so the name decides.
    assert!(outcomes(&of(&cni)).is_empty());
    assert_eq!(outcomes(&of(&csi)), [("A", Outcome::LeftOut)]);
}

#[test]
fn a_probe_that_older_rules_make_wherever_the_rule_applies_is_left_out() {
    let older = [rule("cni", &linux(), &["A"])];
    let both = json!([{"key": "os", "operator": "Exists"}, {"key": "pool", "operator": "Exists"}]);
    let younger = rule("csi", &both, &["A"]);
    let left = share(&younger, &older, &[]);
    assert_eq!(outcomes(&left), [("A", Outcome::LeftOut)]);
    assert!(
        generate(&younger.object(), &settings(), &left, MaxUnavailable::default())
            .unwrap()
            .is_none()
    );

    let younger = rule("csi", &both, &["A", "B"]);
    let left = share(&younger, &older, &[]);
    assert_eq!(outcomes(&left), [("A", Outcome::LeftOut)]);
    let objects = generate(&younger.object(), &settings(), &left, MaxUnavailable::default())
        .unwrap()
        .unwrap();
    let config = objects.config_map.data.unwrap().remove("config.json").unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["probes"].as_array().unwrap().len(), 1);
    assert_eq!(config["probes"][0]["conditionType"], "B");
}

#[test]
fn a_rules_reporters_keep_off_nodes_where_older_rules_make_all_of_its_probes() {
    let younger = rule("csi", &pool(), &["A", "B"]);
    let left = share(&younger, &[rule("cni", &linux(), &["A", "B", "C"])], &[]);
    assert_eq!(outcomes(&left), [("A", Outcome::Apart), ("B", Outcome::Apart)]);
    let expected = json!([{"matchExpressions": [
        {"key": "os", "operator": "DoesNotExist"}, {"key": "pool", "operator": "Exists"},
    ]}]);
    assert_eq!(terms(&left), expected);
    let objects = generate(&younger.object(), &settings(), &left, MaxUnavailable::default())
        .unwrap()
        .unwrap();
    let pod = objects.daemon_set.spec.template.spec.unwrap();
    let requirements = expected[0]["matchExpressions"].as_array().unwrap();
    let expected = json!([{"matchExpressions": on_machines(requirements)}]);
    assert_eq!(terms_of_pod(&pod), expected);
}

#[test]
fn a_rule_with_another_probe_to_make_runs_everywhere_and_leaves_the_shared_one_to_the_older() {
    let younger = rule("csi", &pool(), &["A", "B"]);
    let left = share(&younger, &[rule("cni", &linux(), &["A"])], &[]);
    assert_eq!(outcomes(&left), [("A", Outcome::Yields)]);
    assert_eq!(terms(&left), json!([{"matchExpressions": pool()}]));
    let objects = generate(&younger.object(), &settings(), &left, MaxUnavailable::default())
        .unwrap()
        .unwrap();
    let config: Value =
        serde_json::from_str(&objects.config_map.data.unwrap()["config.json"]).unwrap();
    assert_eq!(config["yields"], json!({"A": [{"matchExpressions": linux()}]}));
    assert_eq!(config["probes"].as_array().unwrap().len(), 2);
}

#[test]
fn older_rules_that_share_the_probes_between_them_are_avoided_where_they_meet() {
    let gpu = json!([{"key": "gpu", "operator": "Exists"}]);
    let older = [rule("cni", &linux(), &["A"]), rule("gpu", &gpu, &["B"])];
    let left = share(&rule("csi", &pool(), &["A", "B"]), &older, &[]);
    assert_eq!(outcomes(&left), [("A", Outcome::Yields), ("B", Outcome::Yields)]);
    let expected = json!([
        {"matchExpressions": [
            {"key": "os", "operator": "DoesNotExist"}, {"key": "pool", "operator": "Exists"},
        ]},
        {"matchExpressions": [
            {"key": "gpu", "operator": "DoesNotExist"}, {"key": "pool", "operator": "Exists"},
        ]},
    ]);
    assert_eq!(terms(&left), expected);
}

#[test]
fn an_empty_or_deleted_rule_is_no_conflict() {
    let apart = json!([{"key": "pool", "operator": "DoesNotExist"}]);
    let younger = rule("csi", &pool(), &["A"]);
    assert!(outcomes(&share(&younger, &[rule("cni", &apart, &["A"])], &[])).is_empty());
    assert!(outcomes(&share(&younger, &[rule("cni", &linux(), &["B"])], &[])).is_empty());
    let deleting = rule("cni", &linux(), &["A"]).deleting();
    assert!(outcomes(&share(&younger, &[deleting], &[])).is_empty());
}

#[test]
fn only_nodes_decide_which_conflict_is_reported() {
    let (younger, older) = (rule("csi", &pool(), &["A"]), [rule("cni", &linux(), &["A"])]);
    let both = TestNode::new("a").label("os", "linux").label("pool", "x");
    let (none, some) = (share(&younger, &older, &[]), share(&younger, &older, &[both]));
    assert_eq!(none.nodes, some.nodes);
    assert!(!none.conflicts["A"].met && some.conflicts["A"].met);
    assert_eq!(some.conflicts["A"].older, ["cni"]);
}

#[test]
fn an_affinity_that_is_too_large_is_left_to_the_reporters() {
    let keys = |letter: char| -> Value {
        let key = |n: usize| json!({"key": format!("{letter}{n}"), "operator": "Exists"});
        (0..9).map(key).collect()
    };
    let older = [rule("cni", &keys('a'), &["A"]), rule("csi", &keys('b'), &["A"])];
    let left = share(&rule("gpu", &pool(), &["A"]), &older, &[]);
    assert_eq!(outcomes(&left), [("A", Outcome::Yields)]);
    assert_eq!(terms(&left), json!([{"matchExpressions": pool()}]));
    assert_eq!(left.yields["A"].len(), 2);
}

#[test]
fn without_impersonation_a_policy_limits_what_rbac_grants() {
    let rule = probing().spec("reporter", json!({"access": "AdmissionPolicy"}));
    let objects = generated(&rule).unwrap();
    let bound = objects.policy.unwrap();
    assert_eq!(bound.policy.metadata.name.as_deref(), Some("nrr-reporter-cni-own-conditions"));
    assert_eq!(bound.binding.spec.policy_name, "nrr-reporter-cni-own-conditions");
    let policy = serde_json::to_value(&bound.policy.spec).unwrap();
    let whose = "request.userInfo.username == 'system:serviceaccount:reporters:reporter-cni'";
    assert_eq!(policy["matchConditions"][0]["expression"], whose);
    assert_eq!(policy["variables"][0], json!({"name": "types", "expression": "[\"Ready1\"]"}));
    assert_eq!(policy["failurePolicy"], "Fail");
    let [granted] = &objects.roles[..] else { panic!("{:?}", objects.roles) };
    let rules = serde_json::to_value(&granted.rules).unwrap();
    let expected = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["update"]},
    ]);
    assert_eq!(rules, expected);
    assert!(generated(&probing()).unwrap().policy.is_none());
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
    // The scheduler never places two pods with the same host port on a node, so the reporters of a second rule
    // with that port would never start.
    assert_eq!(ports(true), None);
    let of_the_pod = &ports(false).unwrap()[0];
    assert_eq!((of_the_pod.container_port, of_the_pod.host_port), (9200, None));
}
