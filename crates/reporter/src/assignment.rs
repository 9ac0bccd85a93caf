//! Which probes a reporter runs on its node.
//!
//! For each condition it is the probe of the oldest rule that covers the node. If that rule's probe runs in the
//! reporter of another set, there is none here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::core::SelectorExt as _;
use node_readiness_api::host_path::{directory, is_below};

use crate::settings::{ProbeSettings, config::Config};

/// The heartbeat without probes, when there is nothing to renew.
const NO_HEARTBEAT: Duration = Duration::from_mins(5);

/// The probes of one reporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The probes by condition type.
    pub probes: BTreeMap<String, ProbeSettings>,
    /// The time after which unchanged conditions are renewed: the shortest of the rules, because one write costs the
    /// same for all conditions.
    pub heartbeat: Duration,
    /// By condition type, the directory of the node that its probe needs and that is not mounted. The pod is older
    /// than the rule, and is about to be replaced.
    pub unmounted: BTreeMap<String, String>,
}

impl Default for Assignment {
    fn default() -> Self {
        Self { probes: BTreeMap::new(), heartbeat: NO_HEARTBEAT, unmounted: BTreeMap::new() }
    }
}

impl Assignment {
    /// Returns the probes for a node with these labels. `mounted` are the directories of the node in the pod.
    pub fn of(config: &Config, labels: &BTreeMap<String, String>, mounted: &[String]) -> Self {
        let mut assignment = Self::default();
        let mut decided = BTreeSet::new();
        let mut heartbeats = Vec::new();
        for rule in config.rules.iter().filter(|rule| rule.selector.matches(labels)) {
            for probe in &rule.probes {
                if !decided.insert(probe.condition_type.as_str()) {
                    continue;
                }
                heartbeats.push(rule.heartbeat);
                let condition_type = probe.condition_type.clone();
                if let Some(directory) = unmounted(probe, mounted) {
                    assignment.unmounted.insert(condition_type, directory);
                } else {
                    assignment.probes.insert(condition_type, probe.clone());
                }
            }
            decided.extend(rule.written_by_other_set.iter().map(String::as_str));
        }
        assignment.heartbeat = heartbeats.into_iter().min().unwrap_or(NO_HEARTBEAT);
        assignment
    }
}

/// Returns the directory that a probe needs and that is not mounted.
fn unmounted(probe: &ProbeSettings, mounted: &[String]) -> Option<String> {
    let needed = directory(probe.check.host_path()?);
    let is_mounted = mounted.iter().any(|prefix| is_below(needed, prefix));
    (!is_mounted).then(|| needed.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::config::Host;

    /// A rule for nodes with this label, with a probe of this port for each condition.
    fn rule(name: &str, label: &str, port: u16, conditions: &[&str]) -> Value {
        let probe = |type_: &&str| json!({"conditionType": type_, "tcpSocket": {"port": port}});
        json!({
            "name": name, "uid": name, "heartbeatSeconds": port,
            "nodeSelector": {"matchExpressions": [{"key": label, "operator": "Exists"}]},
            "probes": conditions.iter().map(probe).collect::<Vec<_>>(),
        })
    }

    fn assigned(rules: &[Value], labels: &[&str], mounted: &[&str]) -> Assignment {
        let host = Host { root: "/host".as_ref(), address: None };
        let config = Config::parse(&json!({"rules": rules}).to_string(), host).unwrap();
        let labels = labels.iter().map(|&label| (label.to_owned(), String::new())).collect();
        let mounted: Vec<_> = mounted.iter().map(|&directory| directory.to_owned()).collect();
        Assignment::of(&config, &labels, &mounted)
    }

    /// The condition types with the ports of their probes.
    fn ports(assignment: &Assignment) -> Vec<(&str, String)> {
        let port = |probe: &ProbeSettings| format!("{:?}", probe.check);
        assignment.probes.iter().map(|(type_, probe)| (type_.as_str(), port(probe))).collect()
    }

    fn tcp(port: u16) -> String {
        format!(r#"Tcp(TcpCheck {{ host: "localhost", port: {port} }})"#)
    }

    #[test]
    fn the_oldest_rule_that_covers_the_node_decides_a_condition() {
        let rules = [
            rule("old", "a", 1, &["X"]),
            rule("mid", "b", 2, &["X", "Y"]),
            rule("young", "a", 3, &["Y", "Z"]),
        ];
        let both = assigned(&rules, &["a", "b"], &[]);
        assert_eq!(ports(&both), [("X", tcp(1)), ("Y", tcp(2)), ("Z", tcp(3))]);
        let a = assigned(&rules, &["a"], &[]);
        assert_eq!(ports(&a), [("X", tcp(1)), ("Y", tcp(3)), ("Z", tcp(3))]);
        let b = assigned(&rules, &["b"], &[]);
        assert_eq!(ports(&b), [("X", tcp(2)), ("Y", tcp(2))]);
        assert_eq!(assigned(&rules, &["c"], &[]), Assignment::default());
    }

    #[test]
    fn a_condition_that_another_set_writes_is_left_to_it_by_younger_rules_only() {
        let mut foreign = rule("foreign", "a", 2, &[]);
        foreign["writtenByOtherSet"] = json!(["X", "Y"]);
        let rules = [rule("old", "a", 1, &["X"]), foreign, rule("young", "a", 3, &["Y", "Z"])];
        let here = assigned(&rules, &["a"], &[]);
        assert_eq!(ports(&here), [("X", tcp(1)), ("Z", tcp(3))]);
    }

    #[test]
    fn the_shortest_heartbeat_of_the_rules_with_a_probe_here_counts() {
        let rules =
            [rule("a", "a", 30, &["X"]), rule("b", "b", 20, &["Y"]), rule("c", "a", 10, &["X"])];
        assert_eq!(assigned(&rules, &["a"], &[]).heartbeat, Duration::from_secs(30));
        assert_eq!(assigned(&rules, &["a", "b"], &[]).heartbeat, Duration::from_secs(20));
    }

    #[test]
    fn a_probe_of_a_directory_that_is_not_mounted_is_left_to_the_next_pod() {
        let mut rule = rule("a", "a", 1, &[]);
        rule["probes"] = json!([
            {"conditionType": "X", "file": {"path": "/run/gpu/*.ready"}},
            {"conditionType": "Y", "unixSocket": {"path": "/run/cni/a.sock"}},
        ]);
        let some = assigned(&[rule.clone()], &["a"], &["/run/gpu"]);
        assert_eq!(some.probes.keys().collect::<Vec<_>>(), ["X"]);
        assert_eq!(some.unmounted, [("Y".to_owned(), "/run/cni".to_owned())].into());
        assert!(assigned(&[rule], &["a"], &["/run"]).unmounted.is_empty());
    }
}
