//! Rules of tests whose reporters run on one node, and the conditions that those write.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use node_readiness_api::{CLAIMS_ANNOTATION, Claim, Claims, NodeReadinessRule, REPORTER_SET_LABEL};
use node_readiness_engine::reporter::set_name;
use serde_json::{Map, Value, json};

use crate::harness::{Exclusive, eventually};
use crate::shell::{apply, get, get_all, kubectl};

/// The namespace of generated reporters.
pub const REPORTERS: &str = "nrr-reporters";

/// Status, reason and message of a condition.
pub type Report = (&'static str, &'static str, String);

/// Returns a condition type of these tests.
pub fn type_of(condition: &str) -> String {
    format!("e2e.example.com/{condition}")
}

/// Waits until the node has exactly these conditions.
pub fn await_reports(node: &str, expected: &[(&str, Report)]) {
    let mut last = Vec::new();
    eventually(&format!("{node} has these conditions: {expected:#?}"), || {
        let node: Node = get(&["node", node]);
        let found = node.status.unwrap().conditions.unwrap();
        // libtest shows this if the test fails.
        if found != last {
            println!("{found:#?}");
            last.clone_from(&found);
        }
        let is_there = |(condition, report): &(&str, Report)| {
            let (status, reason, message) = report;
            found.iter().any(|c| {
                c.type_ == type_of(condition)
                    && c.status == *status
                    && c.reason.as_deref() == Some(reason)
                    && c.message.as_ref() == Some(message)
            })
        };
        expected.iter().all(is_there).then_some(())
    });
}

/// Removes conditions of these types from a node, which an earlier run of the test may have left.
pub fn forget(node: &str, types: &[&str]) {
    let deleted = |type_: &&str| json!({"type": type_, "$patch": "delete"});
    let conditions: Vec<Value> = types.iter().map(deleted).collect();
    let patch = json!({"status": {"conditions": conditions}}).to_string();
    kubectl(&["patch", "node", node, "--subresource=status", "-p", &patch]);
}

/// A rule of one test for one node or for all nodes. Its probes run every second, and one result changes the condition.
#[derive(Clone)]
pub struct Rule {
    name: String,
    node: &'static str,
    selector: Value,
    effect: &'static str,
    conditions: Vec<Value>,
    probes: Vec<Value>,
    reporter: Value,
    more: Map<String, Value>,
}

impl Rule {
    pub fn of_node(name: &str, node: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            node,
            selector: json!({"matchLabels": {"kubernetes.io/hostname": node}}),
            effect: "NoSchedule",
            conditions: Vec::new(),
            probes: Vec::new(),
            reporter: json!({}),
            more: Map::new(),
        }
    }

    /// Covers all nodes. Waits still concern the one node.
    pub fn on_all_nodes(self) -> Self {
        self.selecting(json!({"matchLabels": {"kubernetes.io/os": "linux"}}))
    }

    /// Covers other nodes. Waits still concern the one node.
    pub fn selecting(self, selector: Value) -> Self {
        Self { selector, ..self }
    }

    /// Probes for a condition with one of the handlers.
    pub fn probe(mut self, condition: &str, handler: &Value) -> Self {
        let type_ = type_of(condition);
        self.conditions.push(json!({"type": type_, "requiredStatus": "True"}));
        let mut probe = json!({"conditionType": type_, "periodSeconds": 1, "failureThreshold": 1});
        probe.as_object_mut().unwrap().extend(handler.as_object().unwrap().clone());
        self.probes.push(probe);
        self
    }

    /// Sets the seconds without a heartbeat after which all of its conditions count as Unknown.
    pub fn stale_after(mut self, seconds: u32) -> Self {
        for condition in &mut self.conditions {
            condition["staleAfterSeconds"] = seconds.into();
        }
        self
    }

    /// Holds nodes with a taint of this effect.
    pub fn effect(mut self, effect: &'static str) -> Self {
        self.effect = effect;
        self
    }

    /// Sets another field of the spec.
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.more.insert(field.to_owned(), value.into());
        self
    }

    /// Sets a field of `spec.reporter`.
    pub fn reporter(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.reporter[field] = value.into();
        self
    }

    /// Creates the rule until the end of the test, after removing its conditions from the node.
    pub fn apply(&self, exclusive: &mut Exclusive) {
        let types = self.conditions.iter().map(|condition| condition["type"].as_str().unwrap());
        forget(self.node, &types.collect::<Vec<_>>());
        self.create(exclusive);
    }

    /// Creates the rule until the end of the test. Conditions that are there may be another rule's.
    pub fn create(&self, exclusive: &mut Exclusive) {
        exclusive.remove_at_the_end(&["nodereadinessrule", &self.name]);
        self.change();
    }

    /// Creates or changes the rule.
    pub fn change(&self) {
        let mut rule = json!({
            "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
            "kind": "NodeReadinessRule",
            "metadata": {"name": self.name},
            "spec": {
                "nodeSelector": self.selector,
                "conditions": self.conditions,
                "enforcementMode": "continuous",
                "taint": {"key": self.taint(), "value": "pending", "effect": self.effect},
                "probes": self.probes,
                "reporter": self.reporter,
            },
        });
        let spec = rule["spec"].as_object_mut().unwrap();
        if self.probes.is_empty() {
            spec.remove("reporter");
        }
        spec.extend(self.more.clone());
        apply(&rule);
    }

    /// Waits until the node's condition is exactly this.
    pub fn await_reported(&self, condition: &str, expected: &Report) {
        await_reports(self.node, &[(condition, expected.clone())]);
    }

    /// Returns the node's current conditions that this rule names.
    pub fn conditions(&self) -> Vec<NodeCondition> {
        let mut conditions = self.node().status.unwrap().conditions.unwrap();
        conditions.retain(|c| self.conditions.iter().any(|own| own["type"] == c.type_.as_str()));
        conditions
    }

    /// Waits until the node has the rule's taint, or does not.
    pub fn await_held(&self, held: bool) {
        eventually(&format!("{} is held by {}: {held}", self.node, self.name), || {
            let taints = self.node().spec.and_then(|spec| spec.taints).unwrap_or_default();
            (taints.iter().any(|taint| taint.key == self.taint()) == held).then_some(())
        });
    }

    /// Returns the current rule.
    pub fn now(&self) -> NodeReadinessRule {
        get(&["nodereadinessrule", &self.name])
    }

    /// Returns the name of its reporter set.
    pub fn set(&self) -> String {
        set_name(&serde_json::from_value(self.reporter.clone()).unwrap()).unwrap()
    }

    /// Waits until its reporter runs on its node.
    pub fn await_pod(&self) -> Pod {
        let what = format!("the reporter of {} runs", self.name);
        eventually(&what, || self.pod_on(self.node))
    }

    /// Returns the ready reporter on a node.
    pub fn pod_on(&self, node: &str) -> Option<Pod> {
        let is_there = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node);
        self.ready_pods().into_iter().find(is_there)
    }

    /// Returns the ready reporters of its set.
    pub fn ready_pods(&self) -> Vec<Pod> {
        let label = format!("-l{REPORTER_SET_LABEL}={}", self.set());
        let mut pods: Vec<Pod> = get_all(&["pods", "-n", REPORTERS, &label]);
        pods.retain(|pod| {
            let containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            // Those of the test before may still be terminating.
            pod.metadata.deletion_timestamp.is_none()
                && containers.clone().count() == 1
                && containers.into_iter().all(|c| c.ready)
        });
        pods
    }

    /// Returns the DaemonSet of its set.
    pub fn daemon_set(&self) -> Value {
        get(&["daemonset", "-n", REPORTERS, &self.set()])
    }

    /// Returns the log of its reporter.
    pub fn log(&self) -> String {
        let pod = self.await_pod().metadata.name.unwrap();
        kubectl(&["-n", REPORTERS, "logs", &pod, "--tail=-1"])
    }

    pub fn node(&self) -> Node {
        get(&["node", self.node])
    }

    /// Returns the rule's claim on its node.
    pub fn claim(&self) -> Option<Claim> {
        let annotations = self.node().metadata.annotations?;
        let claims: Claims = serde_json::from_str(annotations.get(CLAIMS_ANNOTATION)?).unwrap();
        claims.get(&self.name).cloned()
    }

    fn taint(&self) -> String {
        format!("readiness.k8s.io/{}", self.name)
    }
}
