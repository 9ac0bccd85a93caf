//! The output of `make build-installer`, which `make install` and `make deploy` apply. Users and their tools know the
//! names in it.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::harness::{kubeconfig, kubectl};

/// All objects of the installer. The tests share one file, so it is written once.
static INSTALLER: LazyLock<Vec<Value>> = LazyLock::new(installer);

fn installer() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new("make")
        .args(["build-installer", "IMG_PREFIX=registry.example.com/team", "IMG_TAG=v9"])
        .env("KUBECONFIG", kubeconfig())
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = root.join("dist/install.yaml").display().to_string();
    let all = kubectl(&["create", "--dry-run=client", "--output=json", "--filename", &file]);
    // The output is a sequence of JSON objects.
    serde_json::Deserializer::from_str(&all)
        .into_iter::<Value>()
        .flat_map(|object| match object.unwrap() {
            Value::Object(list) if list.contains_key("items") => {
                list["items"].as_array().unwrap().clone()
            }
            object => vec![object],
        })
        .collect()
}

fn find(kind: &str, name: &str) -> &'static Value {
    let found = INSTALLER.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} {name} is not installed"))
}

#[test]
fn the_installer_has_the_names_labels_and_settings_that_users_know() {
    for name in [
        "nrr-manager-role",
        "nrr-metrics-auth-role",
        "nrr-metrics-reader",
        "nrr-nodereadinessrule-admin-role",
        "nrr-nodereadinessrule-editor-role",
        "nrr-nodereadinessrule-viewer-role",
    ] {
        find("ClusterRole", name);
    }
    find("Role", "nrr-leader-election-role");
    find("ServiceAccount", "nrr-controller-manager");
    find("CustomResourceDefinition", "nodereadinessrules.readiness.node.x-k8s.io");
    let namespace = find("Namespace", "nrr-system");
    let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(enforced, "restricted");

    let deployment = find("Deployment", "nrr-controller-manager");
    assert_eq!(deployment["metadata"]["namespace"], "nrr-system");
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    assert_eq!(labels["control-plane"], "controller-manager");
    assert_eq!(labels["app.kubernetes.io/name"], "nrrcontroller");
    let pod = &template["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    for effect in ["NoSchedule", "NoExecute"] {
        let every = json!({"effect": effect, "operator": "Exists"});
        assert!(pod["tolerations"].as_array().unwrap().contains(&every), "{pod}");
    }
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example.com/team/operator:v9");
    let reporter =
        json!({"name": "REPORTER_IMAGE", "value": "registry.example.com/team/reporter:v9"});
    assert!(container["env"].as_array().unwrap().contains(&reporter), "{container}");
}

#[test]
fn viewers_of_rules_may_not_write_them() {
    let verbs = |role: &str| -> Vec<Value> {
        let role = find("ClusterRole", &format!("nrr-nodereadinessrule-{role}-role"));
        let rules = role["rules"].as_array().unwrap();
        rules.iter().flat_map(|rule| rule["verbs"].as_array().unwrap().clone()).collect()
    };
    assert!(
        verbs("viewer")
            .iter()
            .all(|verb| ["get", "list", "watch"].contains(&verb.as_str().unwrap()))
    );
    for verb in ["create", "update", "patch", "delete"] {
        assert!(verbs("editor").contains(&json!(verb)), "{verb}");
    }
    assert!(verbs("admin").contains(&json!("*")));
}

#[test]
fn the_component_no_pods_takes_the_permission_to_watch_pods_away() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/no-pods");
    std::fs::create_dir_all(&directory).unwrap();
    let kustomization = "resources: [../../config/default]\ncomponents: [../../config/no-pods]\n";
    std::fs::write(directory.join("kustomization.yaml"), kustomization).unwrap();
    let built = kubectl(&["kustomize", &directory.display().to_string()]);
    assert!(!built.contains("pod-watcher"), "{built}");
    assert!(built.contains("--watch-pods=false"), "{built}");
    find("ClusterRole", "nrr-pod-watcher-role");
}
