//! The pods of reporters, and why they do not run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use node_readiness_api::{REPORTER_SET_LABEL, RULE_UID_LABEL};
use serde::Deserialize;

/// The maximum length of a pod's problem, in bytes.
const LONGEST: usize = 512;

/// A slim pod of a reporter.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
#[serde(from = "Read")]
pub struct ReporterPod {
    /// Name, namespace and version, without labels.
    pub metadata: ObjectMeta,
    /// Name of the pod's reporter set.
    pub set: Option<Box<str>>,
    /// Uid of the pod's rule, if version 0.1 generated it.
    pub rule_uid: Option<Box<str>>,
    /// The node of the pod.
    pub node: Option<Box<str>>,
    /// Whether it is ready.
    pub ready: bool,
    /// Why it does not run, as Kubernetes reports it.
    pub trouble: Option<Box<str>>,
}

/// A pod as read. Fields without a name here are skipped.
#[derive(Deserialize)]
struct Read {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ReadSpec,
    #[serde(default)]
    status: ReadStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadSpec {
    node_name: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReadStatus {
    phase: String,
    reason: Option<String>,
    message: Option<String>,
    conditions: Vec<PodCondition>,
    init_container_statuses: Vec<ContainerStatus>,
    container_statuses: Vec<ContainerStatus>,
}

impl From<Read> for ReporterPod {
    fn from(read: Read) -> Self {
        let Read { metadata, spec, status } = read;
        let ObjectMeta {
            name, namespace, uid, resource_version, labels, deletion_timestamp, ..
        } = metadata;
        let mut labels = labels.unwrap_or_default();
        let mut label = |key| labels.remove(key).map(String::into_boxed_str);
        let is_ready =
            |condition: &PodCondition| condition.type_ == "Ready" && condition.status == "True";
        Self {
            metadata: ObjectMeta {
                name,
                namespace,
                uid,
                resource_version,
                ..ObjectMeta::default()
            },
            set: label(REPORTER_SET_LABEL),
            rule_uid: label(RULE_UID_LABEL),
            node: spec.node_name,
            ready: deletion_timestamp.is_none() && status.conditions.iter().any(is_ready),
            trouble: trouble(&status).map(|mut trouble| {
                trouble.truncate(trouble.floor_char_boundary(LONGEST));
                trouble.into_boxed_str()
            }),
        }
    }
}

fn trouble(status: &ReadStatus) -> Option<String> {
    if status.phase == "Failed" {
        return status.reason.as_deref().map(|reason| words(reason, status.message.as_deref()));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let of_container = containers.into_iter().find_map(of_container);
    let is_unschedulable = |condition: &&PodCondition| {
        condition.type_ == "PodScheduled" && condition.status == "False"
    };
    of_container.or_else(|| {
        let condition = status.conditions.iter().find(is_unschedulable)?;
        Some(words(condition.reason.as_deref()?, condition.message.as_deref()))
    })
}

/// Returns why a container does not run. For a container that restarts repeatedly, the text is the same while it
/// waits and just after it ended.
fn of_container(status: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<ContainerState>| {
        let terminated = state.as_ref().and_then(|state| state.terminated.as_ref());
        terminated.filter(|terminated| terminated.exit_code != 0).map(of_end)
    };
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    let Some(ContainerStateWaiting { reason: Some(reason), message }) = waiting else {
        return ended(&status.state);
    };
    match reason.as_str() {
        "ContainerCreating" | "PodInitializing" => None,
        "CrashLoopBackOff" => {
            ended(&status.last_state).or_else(|| Some(words(reason, message.as_deref())))
        }
        // The two states alternate, and the second quotes the first.
        "ErrImagePull" | "ImagePullBackOff" => {
            let message = message.as_deref().unwrap_or_default();
            let cause = message.split_once("ErrImagePull: ").map_or(message, |(_, cause)| cause);
            Some(words("ErrImagePull", Some(cause)))
        }
        _ => Some(words(reason, message.as_deref())),
    }
}

fn of_end(end: &ContainerStateTerminated) -> String {
    let reason = end.reason.as_deref().unwrap_or("Error");
    words(&format!("{reason}, exit code {}", end.exit_code), end.message.as_deref())
}

fn words(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim) {
        None | Some("") => reason.to_owned(),
        Some(message) => format!("{reason}: {message}"),
    }
}

/// Returns the most frequent problem of these pods, with one of its nodes.
pub fn most_frequent_trouble<'a>(pods: impl Iterator<Item = &'a ReporterPod>) -> Option<String> {
    let mut troubles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in pods {
        let Some(trouble) = &pod.trouble else { continue };
        let place = pod.node.as_deref().or(pod.metadata.name.as_deref()).unwrap_or_default();
        troubles.entry(trouble).or_default().push(place);
    }
    let (trouble, places) = troubles.into_iter().max_by_key(|(_, places)| places.len())?;
    let first = places.iter().min()?;
    Some(match places.len() - 1 {
        0 => format!("{trouble} ({first})"),
        more => format!("{trouble} ({first} and {more} more)"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: &str, status: &Value) -> ReporterPod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("p-{node}"), "labels": {"readiness.k8s.io/reporter-set": "s"}},
            "spec": {"nodeName": node}, "status": status,
        }))
        .unwrap()
    }

    fn container(state: &Value, last_state: &Value) -> Option<String> {
        let status = json!({"name": "reporter", "image": "i", "imageID": "", "ready": false,
            "restartCount": 1, "state": state, "lastState": last_state});
        let pod = pod("a", &json!({"phase": "Pending", "containerStatuses": [status]}));
        assert_eq!(pod.set.as_deref(), Some("s"));
        pod.trouble.map(String::from)
    }

    fn waiting(reason: &str, message: &str) -> Value {
        json!({"waiting": {"reason": reason, "message": message}})
    }

    #[test]
    fn a_running_or_starting_pod_has_no_trouble() {
        for state in [json!({"running": {}}), waiting("ContainerCreating", ""), json!({})] {
            assert_eq!(container(&state, &json!({})), None);
        }
        assert_eq!(pod("a", &json!({})).trouble, None);
    }

    #[test]
    fn a_pod_is_ready_as_its_condition_says() {
        let condition = |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
        assert!(pod("a", &condition("True")).ready);
        assert!(!pod("a", &condition("False")).ready);
        assert!(!pod("a", &json!({})).ready);
    }

    #[test]
    fn alternating_states_have_the_same_text() {
        let pulls = [
            waiting("ErrImagePull", "image x: not found"),
            waiting(
                "ImagePullBackOff",
                "Back-off pulling image \"x\": ErrImagePull: image x: not found",
            ),
        ];
        for pull in pulls {
            let trouble = container(&pull, &json!({})).unwrap();
            assert_eq!(trouble, "ErrImagePull: image x: not found");
        }
        let end = json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "no file\n"}});
        let crashes =
            [(waiting("CrashLoopBackOff", "back-off 10s"), end.clone()), (end, json!({}))];
        for (state, last_state) in crashes {
            let trouble = container(&state, &last_state).unwrap();
            assert_eq!(trouble, "Error, exit code 2: no file");
        }
    }

    #[test]
    fn the_trouble_of_an_unscheduled_and_of_an_evicted_pod_is_its_reason() {
        let condition = json!({"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/2 nodes are available"});
        let unscheduled = pod("a", &json!({"phase": "Pending", "conditions": [condition]}));
        assert_eq!(unscheduled.trouble.as_deref(), Some("Unschedulable: 0/2 nodes are available"));
        let failed = json!({"phase": "Failed", "reason": "Evicted", "message": "no memory"});
        assert_eq!(pod("a", &failed).trouble.as_deref(), Some("Evicted: no memory"));
    }

    #[test]
    fn the_most_frequent_trouble_names_a_node() {
        let failed = |node, reason: &str| pod(node, &json!({"phase": "Failed", "reason": reason}));
        let pods =
            [failed("c", "Two"), failed("a", "One"), failed("b", "Two"), pod("d", &json!({}))];
        assert_eq!(most_frequent_trouble(pods.iter()).as_deref(), Some("Two (b and 1 more)"));
        assert_eq!(most_frequent_trouble(pods[1..2].iter()).as_deref(), Some("One (a)"));
        assert_eq!(most_frequent_trouble(pods[3..].iter()), None);
    }
}
