//! Rules that the API server refuses, each with a message that names the field, and rules in forms that users have,
//! which it accepts.

use kube::Resource;
use node_readiness_api::NodeReadinessRule;
use serde_json::{Value, json};

use crate::harness::Fixture;

/// The name of a case, a change of a valid rule, and the texts that the refusal must contain.
type Case = (&'static str, fn(&mut Value), &'static [&'static str]);

const CASES: &[Case] = &[
    ("no selector", |s| s["nodeSelector"] = json!({}), &["spec.nodeSelector", "must not be empty"]),
    (
        "an operator without values",
        |s| s["nodeSelector"] = json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        &["spec.nodeSelector.matchExpressions[0].values", "values must be given"],
    ),
    (
        "an invalid label key",
        |s| s["nodeSelector"] = json!({"matchLabels": {"a b": "c"}}),
        &["spec.nodeSelector.matchLabels", "each key must be a valid label key"],
    ),
    (
        "a label key whose name is too long",
        |s| s["nodeSelector"] = json!({"matchLabels": {format!("a/{}", "x".repeat(64)): "c"}}),
        &["spec.nodeSelector.matchLabels", "each key must be a valid label key"],
    ),
    (
        "an invalid label value",
        |s| s["nodeSelector"] = json!({"matchLabels": {"a": "c d"}}),
        &["spec.nodeSelector.matchLabels.a", "should match"],
    ),
    (
        "an expression with an invalid label key",
        |s| s["nodeSelector"] = json!({"matchExpressions": [{"key": "a b", "operator": "Exists"}]}),
        &["spec.nodeSelector.matchExpressions[0].key", "should match"],
    ),
    (
        "an expression with an invalid label value",
        |s| {
            let values = ["ok", "c d"];
            s["nodeSelector"] =
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]});
        },
        &["spec.nodeSelector.matchExpressions[0].values[1]", "should match"],
    ),
    (
        "an unknown operator",
        |s| s["nodeSelector"] = json!({"matchExpressions": [{"key": "a", "operator": "Gt"}]}),
        &["spec.nodeSelector.matchExpressions[0].operator", "Unsupported value"],
    ),
    (
        "no requirements",
        |s| s["conditions"] = json!([]),
        &["spec.conditions", "a rule must require something"],
    ),
    (
        "neither conditions nor others",
        |s| drop(s.as_object_mut().unwrap().remove("conditions")),
        &["spec.conditions", "a rule must require something"],
    ),
    (
        "a probe without a condition",
        |s| {
            s.as_object_mut().unwrap().remove("conditions");
            s["csiDrivers"] = json!(["ebs.csi.aws.com"]);
            s["probes"] = json!([{"conditionType": "example.com/Ready", "tcpSocket": {"port": 1}}]);
        },
        &["spec.probes", "must be one of conditions[].type"],
    ),
    (
        "pods of no label",
        |s| s["pods"] = json!([{"name": "a", "namespace": "default", "selector": {}}]),
        &["spec.pods[0].selector", "selector must not be empty"],
    ),
    (
        "a namespace that cannot exist",
        |s| {
            let selector = json!({"matchLabels": {"a": "b"}});
            s["pods"] = json!([{"name": "a", "namespace": "Kube_System", "selector": selector}]);
        },
        &["spec.pods[0].namespace", "should match"],
    ),
    (
        "a driver twice",
        |s| s["csiDrivers"] = json!(["a", "a"]),
        &["spec.csiDrivers[1]", "Duplicate value"],
    ),
    (
        "a minimum that is no quantity",
        |s| s["resources"] = json!([{"name": "example.com/gpu", "minimum": "many"}]),
        &["spec.resources[0].minimum", "must be a quantity that is not negative"],
    ),
    (
        "a minimum below zero",
        |s| s["resources"] = json!([{"name": "example.com/gpu", "minimum": -1}]),
        &["spec.resources[0].minimum", "must be a quantity that is not negative"],
    ),
    (
        "a hold timeout of no time",
        |s| s["holdTimeout"] = json!({"seconds": 0}),
        &["spec.holdTimeout.seconds", "greater than or equal to 1"],
    ),
    (
        "an unknown action",
        |s| s["holdTimeout"] = json!({"seconds": 1, "action": "Evict"}),
        &["spec.holdTimeout.action", "Unsupported value"],
    ),
    (
        "too many conditions",
        |s| {
            s["conditions"] = (0..33)
                .map(|n| json!({"type": format!("t{n}"), "requiredStatus": "True"}))
                .collect();
        },
        &["spec.conditions", "at most 32"],
    ),
    (
        "a condition twice",
        |s| {
            let condition = s["conditions"][0].clone();
            s["conditions"].as_array_mut().unwrap().push(condition);
        },
        &["spec.conditions[1]", "Duplicate value"],
    ),
    (
        "an invalid status",
        |s| s["conditions"][0]["requiredStatus"] = json!("Yes"),
        &["spec.conditions[0].requiredStatus", "Unsupported value"],
    ),
    (
        "an empty condition type",
        |s| s["conditions"][0]["type"] = json!(""),
        &["spec.conditions[0].type", "at least 1"],
    ),
    (
        "a default with bootstrap-only",
        |s| {
            s["enforcementMode"] = json!("bootstrap-only");
            s["conditions"][0]["defaultStatus"] = json!("True");
        },
        &["spec.conditions", "defaultStatus cannot be used with enforcementMode bootstrap-only"],
    ),
    (
        "anyOf with bootstrap-only",
        |s| {
            s["enforcementMode"] = json!("bootstrap-only");
            s["conditionPolicy"] = json!("anyOf");
        },
        &["spec.conditionPolicy", "cannot be used with enforcementMode bootstrap-only"],
    ),
    (
        "a limit that is neither a number nor a percentage",
        |s| s["maxUnavailable"] = json!("some"),
        &["spec.maxUnavailable", "must be a number from 0 to 2147483647, or a percentage"],
    ),
    (
        "a limit below zero",
        |s| s["maxUnavailable"] = json!(-1),
        &["spec.maxUnavailable", "must be a number from 0 to 2147483647, or a percentage"],
    ),
    (
        "a limit that is too large",
        |s| s["maxUnavailable"] = json!(3_000_000_000_u32),
        &["spec.maxUnavailable", "must be a number from 0 to 2147483647, or a percentage"],
    ),
    (
        "a percentage above 100",
        |s| s["maxUnavailable"] = json!("101%"),
        &["spec.maxUnavailable", "must be a number from 0 to 2147483647, or a percentage"],
    ),
    (
        "a stale time that is too short",
        |s| s["conditions"][0]["staleAfterSeconds"] = json!(5),
        &["spec.conditions[0].staleAfterSeconds", "greater than or equal to 30"],
    ),
    (
        "a stale time shorter than two default heartbeats",
        |s| {
            s["conditions"][0]["staleAfterSeconds"] = json!(599);
            let type_ = s["conditions"][0]["type"].clone();
            s["probes"] = json!([{"conditionType": type_, "tcpSocket": {"port": 1}}]);
        },
        &["spec.conditions", "at least twice reporter.heartbeatSeconds", "default 300"],
    ),
    (
        "a stale time shorter than two configured heartbeats",
        |s| {
            s["conditions"][0]["staleAfterSeconds"] = json!(30);
            let type_ = s["conditions"][0]["type"].clone();
            s["probes"] = json!([{"conditionType": type_, "tcpSocket": {"port": 1}}]);
            s["reporter"] = json!({"heartbeatSeconds": 16});
        },
        &["spec.conditions", "at least twice reporter.heartbeatSeconds"],
    ),
    (
        "an unknown policy",
        |s| s["conditionPolicy"] = json!("mostOf"),
        &["spec.conditionPolicy", "Unsupported value"],
    ),
    (
        "no mode",
        |s| s["enforcementMode"] = Value::Null,
        &["spec.enforcementMode", "Required value"],
    ),
    (
        "a foreign taint key",
        |s| s["taint"]["key"] = json!("example.com/a"),
        &["spec.taint.key", "must start with readiness.k8s.io/"],
    ),
    (
        "a taint key with two slashes",
        |s| s["taint"]["key"] = json!("readiness.k8s.io/a/b"),
        &["spec.taint.key", "must have one slash"],
    ),
    (
        "a taint key whose name is too long",
        |s| s["taint"]["key"] = json!(format!("readiness.k8s.io/{}", "a".repeat(64))),
        &["spec.taint.key", "name of 1 to 63"],
    ),
    (
        "a taint key whose name begins with a dash",
        |s| s["taint"]["key"] = json!("readiness.k8s.io/-a"),
        &["spec.taint.key", "name of 1 to 63"],
    ),
    (
        "a condition type that is too long",
        |s| s["conditions"][0]["type"] = json!("a".repeat(317)),
        &["spec.conditions[0].type", "more than 316"],
    ),
    (
        "a taint key without a name",
        |s| s["taint"]["key"] = json!("readiness.k8s.io/"),
        &["spec.taint.key", "name of 1 to 63"],
    ),
    (
        "a taint value that is not a label value",
        |s| s["taint"]["value"] = json!("not valid"),
        &["spec.taint.value", "must be empty or a label value"],
    ),
    (
        "a long taint value",
        |s| s["taint"]["value"] = json!("v".repeat(64)),
        &["spec.taint.value", "63"],
    ),
    (
        "an unknown effect",
        |s| s["taint"]["effect"] = json!("NoRun"),
        &["spec.taint.effect", "Unsupported value"],
    ),
    (
        "a probe of kubelet's condition",
        |s| {
            s["conditions"][0]["type"] = json!("Ready");
            s["probes"][0]["conditionType"] = json!("Ready");
        },
        &["spec.probes[0].conditionType", "a condition that kubelet owns"],
    ),
    (
        "a probe of a condition that the rule does not have",
        |s| s["probes"][0]["conditionType"] = json!("example.com/Other"),
        &["spec.probes", "must be one of conditions[].type"],
    ),
    (
        "a probe without a handler",
        |s| {
            s["probes"][0].as_object_mut().unwrap().remove("httpGet");
        },
        &["spec.probes[0]", "httpGet"],
    ),
    (
        "an invalid port",
        |s| s["probes"][0]["httpGet"]["port"] = json!(70000),
        &["spec.probes[0].httpGet.port", "65535"],
    ),
    (
        "a path without a slash",
        |s| s["probes"][0]["httpGet"]["path"] = json!("ready"),
        &["spec.probes[0].httpGet.path"],
    ),
    (
        "a period of zero",
        |s| s["probes"][0]["periodSeconds"] = json!(0),
        &["spec.probes[0].periodSeconds", "greater than or equal to 1"],
    ),
    (
        "options without probes",
        |s| {
            s["probes"] = json!([]);
            s["reporter"] = json!({"hostNetwork": false});
        },
        &["spec.reporter", "no effect without probes"],
    ),
    (
        "an invalid user",
        |s| s["reporter"] = json!({"runAsUser": -1}),
        &["spec.reporter.runAsUser", "greater than or equal to 0"],
    ),
    (
        "a probe of two kinds",
        |s| s["probes"][0]["grpc"] = json!({"port": 1}),
        &["spec.probes[0]", "set exactly one of httpGet, tcpSocket"],
    ),
    (
        "a probe of no kind",
        |s| s["probes"][0] = json!({"conditionType": "example.com/Ready"}),
        &["spec.probes[0]", "set exactly one of httpGet, tcpSocket"],
    ),
    (
        "a host that is an address with a port",
        |s| s["probes"][0]["httpGet"]["host"] = json!("example.com:80/x"),
        &["spec.probes[0].httpGet.host"],
    ),
    (
        "a path that leaves its directory",
        |s| {
            s["probes"][0] =
                json!({"conditionType": "example.com/Ready", "file": {"path": "/run/../etc/x"}});
        },
        &["spec.probes[0].file", "without empty, '.' or '..' parts"],
    ),
    (
        "a path that is relative",
        |s| {
            s["probes"][0] =
                json!({"conditionType": "example.com/Ready", "unixSocket": {"path": "run/x"}});
        },
        &["spec.probes[0].unixSocket", "must be absolute"],
    ),
    (
        "an empty command",
        |s| {
            s["probes"][0] = json!({"conditionType": "example.com/Ready", "exec": {"command": []}});
        },
        &["spec.probes[0].exec.command", "at least 1"],
    ),
    (
        "a field that does not exist",
        |s| s["dryrun"] = json!(true),
        &["spec.dryrun", "unknown field"],
    ),
];

fn good(name: &str) -> Value {
    json!({
        "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
        "kind": "NodeReadinessRule",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"test": name}},
            "conditions": [{"type": "example.com/Ready", "requiredStatus": "True"}],
            "enforcementMode": "continuous",
            "taint": {"key": "readiness.k8s.io/a", "effect": "NoSchedule"},
            "probes": [{"conditionType": "example.com/Ready", "httpGet": {"port": 9099}}],
        },
    })
}

/// Creates a rule as a dry run, with kubectl's strict validation, which refuses unknown fields.
async fn create(t: &Fixture, rule: &Value) -> Result<(), String> {
    let path = NodeReadinessRule::url_path(&(), None);
    let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(rule.to_string().into_bytes())
        .unwrap();
    t.client.request::<Value>(request).await.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn each_kind_of_invalid_field_is_refused_by_name() {
    let t = Fixture::new("refused").await;
    create(&t, &good("refused")).await.expect("the rule that the cases change is valid");
    for (case, change, says) in CASES {
        let mut rule = good("refused");
        change(&mut rule["spec"]);
        let refusal = create(&t, &rule).await.expect_err(case);
        for part in *says {
            assert!(refusal.contains(part), "{case}: {part:?} is not in {refusal:?}");
        }
    }
}

#[tokio::test]
async fn lesson_279_every_form_that_users_have_is_accepted() {
    let t = Fixture::new("taken").await;
    let forms: &[fn(&mut Value)] = &[
        |s| s["enforcementMode"] = json!("bootstrap-only"),
        |s| s["dryRun"] = json!(true),
        |s| s["suspend"] = json!(true),
        |s| s["maxUnavailable"] = json!("20%"),
        |s| s["maxUnavailable"] = json!(3),
        |s| s["conditions"][0]["staleAfterSeconds"] = json!(900),
        |s| {
            s["conditions"][0]["staleAfterSeconds"] = json!(30);
            let type_ = s["conditions"][0]["type"].clone();
            s["probes"] = json!([{"conditionType": type_, "tcpSocket": {"port": 1}}]);
            s["reporter"] = json!({"heartbeatSeconds": 15});
        },
        |s| {
            s["conditions"][0]["staleAfterSeconds"] = Value::Null;
            let type_ = s["conditions"][0]["type"].clone();
            s["probes"] = json!([{"conditionType": type_, "tcpSocket": {"port": 1}}]);
            s["reporter"] = Value::Null;
        },
        |s| s["conditionPolicy"] = json!("anyOf"),
        |s| s["conditions"][0]["defaultStatus"] = json!("True"),
        |s| {
            s["nodeSelector"] = json!({"matchExpressions": [
                {"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"},
                {"key": "zone", "operator": "NotIn", "values": ["a", "b"]},
            ]});
        },
        |s| {
            s["nodeSelector"] = json!({"matchLabels": {
                "node-role.kubernetes.io/worker": "", "Zone_a.b-c": "A.b_c-1", "x": "y",
                format!("a-1.example.com/{}", "x".repeat(63)): "x".repeat(63),
            }});
        },
        |s| s["taint"]["key"] = json!("startup-taint.cluster-autoscaler.kubernetes.io/net"),
        |s| {
            s["taint"] =
                json!({"key": "readiness.k8s.io/problem", "value": "", "effect": "NoExecute"});
        },
        |s| s["taint"]["key"] = json!(format!("readiness.k8s.io/{}", "a".repeat(63))),
        |s| s["taint"]["effect"] = json!("PreferNoSchedule"),
        |s| {
            s["conditions"] = (0..32)
                .map(|n| json!({"type": format!("{n:0316}"), "requiredStatus": "True"}))
                .collect();
            s["probes"] = json!([]);
        },
        |s| {
            let hosts: Vec<_> = (0..1000).map(|n| format!("node-{n}")).collect();
            s["nodeSelector"] = json!({"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": hosts},
            ]});
        },
        |s| s["probes"] = json!([]),
        |s| {
            s["probes"][0]["httpGet"] = json!({
                "port": 443, "path": "/healthz?full=true", "scheme": "HTTPS",
                "httpHeaders": [{"name": "X-Probe", "value": "yes please"}],
            });
        },
        |s| {
            s["reporter"] = json!({
                "heartbeatSeconds": 60, "hostNetwork": false, "runAsUser": 1000,
                "resources": {"requests": {"cpu": "1m"}},
                "tolerations": [{"key": "a", "operator": "Exists"}],
                "podLabels": {"team": "net"}, "podAnnotations": {"a": "b"},
                "priorityClassName": "system-node-critical",
                "imagePullSecrets": [{"name": "pull"}],
            });
        },
    ];
    for (number, change) in forms.iter().enumerate() {
        let mut rule = good("taken");
        change(&mut rule["spec"]);
        create(&t, &rule).await.unwrap_or_else(|refusal| panic!("form {number}: {refusal}"));
    }
}
