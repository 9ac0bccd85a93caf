//! A node and rules in the form of the API server, and the effect of a patch on the node.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod reporters;
pub mod signals;

use std::time::Duration;

use json_patch::{Patch, PatchOperation};
use k8s_openapi::jiff::Timestamp;
use node_readiness_engine::{
    CoveredNodes, Heartbeats, MetSince, Node, NodePlan, NodeState, PlanContext, RegressedNodes,
    Rule, RuleSet, signals::Signals,
};
use serde_json::{Value, json};

/// Returns a time of these tests, by its number of seconds after a fixed start.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Plans a node without heartbeats and limits.
pub fn plan(node: &Node, rules: &RuleSet, now: Timestamp) -> NodePlan {
    node_readiness_engine::plan(node, rules, &PlanContext::unobserved(now, Duration::ZERO))
}

/// A node in the form of the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct TestNode(pub Value);

impl TestNode {
    pub fn new(name: &str) -> Self {
        Self(json!({
            "metadata": {"name": name, "uid": format!("uid-of-{name}")},
            "spec": {},
            "status": {},
        }))
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        let taint = match value {
            "" => json!({"key": key, "effect": effect}),
            value => json!({"key": key, "value": value, "effect": effect}),
        };
        match self.0["spec"]["taints"].as_array_mut() {
            Some(taints) => taints.push(taint),
            None => self.0["spec"]["taints"] = json!([taint]),
        }
        self
    }

    pub fn condition(mut self, type_: &str, status: &str) -> Self {
        let mut conditions: Vec<Value> =
            self.0["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != type_);
        conditions.push(json!({"type": type_, "status": status}));
        self.0["status"]["conditions"] = json!(conditions);
        self
    }

    /// Adds a condition that was written at that time, in the form of [`at`].
    pub fn reported(mut self, type_: &str, status: &str, seconds: i64) -> Self {
        self = self.condition(type_, status);
        let conditions = self.0["status"]["conditions"].as_array_mut().unwrap();
        let condition = conditions.last_mut().unwrap();
        condition["lastHeartbeatTime"] = json!(at(seconds));
        condition["lastTransitionTime"] = json!(at(seconds));
        self
    }

    pub fn joined(mut self, seconds: i64) -> Self {
        self.0["metadata"]["creationTimestamp"] = json!(at(seconds));
        self
    }

    pub fn booted(mut self, boot: &str) -> Self {
        self.0["status"]["nodeInfo"] = json!({"bootID": boot});
        self
    }

    pub fn view(&self) -> Node {
        serde_json::from_value(self.0.clone()).unwrap()
    }

    /// Returns `key=value:effect` of each taint, sorted.
    pub fn taints(&self) -> Vec<String> {
        let taints = self.0["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let text = |taint: &Value, field: &str| taint[field].as_str().unwrap_or("").to_owned();
        let mut taints: Vec<_> = taints
            .iter()
            .map(|t| format!("{}={}:{}", text(t, "key"), text(t, "value"), text(t, "effect")))
            .collect();
        taints.sort();
        taints
    }

    /// Returns this project's record, without times.
    pub fn record(&self) -> Value {
        let text = self.0["metadata"]["annotations"]["readiness.k8s.io/rules"].as_str();
        let mut record: Value = serde_json::from_str(text.unwrap_or("{}")).unwrap();
        for claim in record.as_object_mut().unwrap().values_mut() {
            claim.as_object_mut().unwrap().remove("since");
        }
        record
    }

    /// Returns the suffixes of the bootstrap annotations.
    pub fn completed(&self) -> Vec<String> {
        let annotations =
            self.0["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        annotations
            .keys()
            .filter_map(|key| key.strip_prefix("readiness.k8s.io/bootstrap-completed-"))
            .map(str::to_owned)
            .collect()
    }

    /// Applies a patch as the API server does: completely or not at all. A test for null passes if the member is
    /// missing.
    pub fn apply(&mut self, patch: &Patch) -> Result<(), String> {
        let mut next = self.0.clone();
        for operation in &patch.0 {
            if let PatchOperation::Test(test) = operation
                && test.value.is_null()
            {
                let pointer = test.path.as_str();
                match next.pointer(pointer) {
                    None | Some(Value::Null) => continue,
                    Some(found) => return Err(format!("{pointer} is {found}")),
                }
            }
            json_patch::patch(&mut next, std::slice::from_ref(operation))
                .map_err(|error| error.to_string())?;
        }
        self.0 = next;
        Ok(())
    }

    /// Plans the node and applies the patch.
    pub fn reconcile(&mut self, rules: &RuleSet, now: Timestamp) -> NodePlan {
        let plan = plan(&self.view(), rules, now);
        if let Some(patch) = &plan.patch {
            self.apply(patch).unwrap();
        }
        plan
    }
}

/// A rule in the form of the API server.
#[derive(Clone, Debug)]
pub struct TestRule(pub Value);

pub const KEY: &str = "readiness.k8s.io/Net";

impl TestRule {
    /// A continuous rule over every node with the label `os`, which requires `Ready1`=True.
    pub fn new(name: &str) -> Self {
        Self(json!({
            "apiVersion": "readiness.node.x-k8s.io/v1alpha1",
            "kind": "NodeReadinessRule",
            "metadata": {
                "name": name,
                "uid": format!("uid-{name}"),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "generation": 1,
            },
            "spec": {
                "nodeSelector": {"matchExpressions": [{"key": "os", "operator": "Exists"}]},
                "conditions": [{"type": "Ready1", "requiredStatus": "True"}],
                "enforcementMode": "continuous",
                "taint": {"key": KEY, "value": "pending", "effect": "NoSchedule"},
            },
        }))
    }

    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    pub fn bootstrap(self) -> Self {
        self.spec("enforcementMode", json!("bootstrap-only"))
    }

    pub fn taint(self, key: &str, value: &str) -> Self {
        self.spec("taint", json!({"key": key, "value": value, "effect": "NoSchedule"}))
    }

    pub fn created(mut self, time: &str) -> Self {
        self.0["metadata"]["creationTimestamp"] = json!(time);
        self
    }

    /// Adds a probe for `Ready1`.
    pub fn probed(self) -> Self {
        self.spec("probes", json!([{"conditionType": "Ready1", "tcpSocket": {"port": 1}}]))
    }

    pub fn deleting(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        self
    }

    pub fn object(&self) -> node_readiness_api::NodeReadinessRule {
        serde_json::from_value(self.0.clone()).unwrap()
    }

    pub fn compile(&self) -> Rule {
        Rule::compile(&self.object()).unwrap()
    }
}

pub fn rules(rules: &[TestRule]) -> RuleSet {
    RuleSet::new(rules.iter().map(TestRule::compile), [])
}

/// A running operator with its observations.
#[derive(Default)]
pub struct Operator {
    /// The time of its clock, in the form of [`at`].
    pub now: i64,
    pub uptime: Duration,
    pub heartbeats: Heartbeats,
    pub signals: Signals,
    pub met_since: MetSince,
    pub regressed_nodes: RegressedNodes,
    /// Every node of the cluster.
    pub nodes: Vec<Node>,
}

impl Operator {
    /// Creates an operator that has just started and has read these nodes.
    pub fn started(nodes: &[&TestNode]) -> Self {
        let views: Vec<_> = nodes.iter().map(|node| node.view()).collect();
        let mut operator =
            Self { regressed_nodes: RegressedNodes::recount(&views), ..Self::default() };
        for view in &views {
            operator.heartbeats.observe(view, Duration::ZERO);
        }
        operator.nodes = views;
        operator
    }

    pub fn wait(&mut self, seconds: u64) {
        self.uptime += Duration::from_secs(seconds);
    }

    pub fn sees(&mut self, node: &TestNode) {
        self.heartbeats.observe(&node.view(), self.uptime);
    }

    pub fn reconcile(&mut self, node: &mut TestNode, rules: &RuleSet) -> NodePlan {
        let view = node.view();
        let covered_nodes = CoveredNodes::count(rules, &self.nodes);
        let context = PlanContext {
            now: at(self.now),
            uptime: self.uptime,
            heartbeats: &self.heartbeats,
            signals: &self.signals,
            met_since: &self.met_since,
            regressed_nodes: &self.regressed_nodes,
            covered_nodes: &covered_nodes,
        };
        let plan = node_readiness_engine::plan(&view, rules, &context);
        if let Some(patch) = &plan.patch {
            node.apply(patch).unwrap();
        }
        self.regressed_nodes.set(view.name(), &plan.regressed);
        self.met_since.observe(view.name(), &plan.results, rules, self.uptime);
        plan
    }
}

/// Returns the state of a node for the first rule of its plan.
pub fn state(plan: &NodePlan) -> NodeState {
    plan.results[0].state
}
