//! The objects of a reporter set, and the nodes on which its pods run.

use k8s_openapi::api::core::v1::PodSpec;
use node_readiness_engine::reporter::{
    Allowances, MaxUnavailable, ReporterObjects, ReporterSet, Settings, generate,
};
use serde_json::{Value, json};

pub fn generated(set: &ReporterSet) -> ReporterObjects {
    let settings = Settings {
        namespace: "reporters".into(),
        image: "reporter:test".into(),
        allowances: Allowances::default(),
    };
    generate(set, &settings, MaxUnavailable::default()).unwrap()
}

/// Returns the terms of a pod's node affinity.
pub fn terms(pod: &PodSpec) -> Value {
    let affinity = serde_json::to_value(&pod.affinity).unwrap();
    affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        .clone()
}

/// Returns a term with these requirements, and with the ones that exclude virtual nodes.
pub fn term(requirements: &[Value]) -> Value {
    let mut all = requirements.to_vec();
    for (key, value) in [("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate")]
    {
        all.push(json!({"key": key, "operator": "NotIn", "values": [value]}));
    }
    json!({"matchExpressions": all})
}
