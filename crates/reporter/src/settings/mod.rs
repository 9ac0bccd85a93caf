//! The settings of a reporter, in two forms.
//!
//! The operator starts reporters with arguments, and they follow a [`config`] that may change. The variables of the Go
//! project's reporter, in [`env`](mod@env), do not change. Both become [`Settings`], and nothing else depends on the
//! form. Each error names the setting and the remedy.

mod check;
pub mod config;
pub mod env;
mod go_duration;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use node_readiness_api::{KUBELET_CONDITIONS, NODE_ADDRESS_ENV, NODE_NAME_ENV};

use crate::{
    assignment::Assignment,
    cli::{Args, ConfigMapName},
    configuration::Source,
    identity::Identity,
    probe::Check,
    threshold::Thresholds,
};

/// All settings of a reporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The node to write.
    pub node: String,
    /// As whom to read and write it.
    pub identity: Identity,
    /// Where to serve metrics, if at all.
    pub metrics: Option<MetricsEndpoint>,
    /// The probes.
    pub work: Work,
}

/// The probes of a reporter.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// They never change.
    Fixed(Assignment),
    /// They follow from a configuration and the Node's labels.
    Followed(Source),
}

/// Reads the settings of a reporter that follows this ConfigMap.
///
/// # Errors
///
/// When `NODE_NAME` or `NODE_ADDRESS` is missing or wrong; see [`SettingsError`].
pub fn follow(
    config_map: &ConfigMapName,
    args: &Args,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, SettingsError> {
    let node = node_name(&variable)?;
    let identity =
        if args.impersonate_node { Identity::Node(node.clone()) } else { Identity::ServiceAccount };
    let endpoint = |port| MetricsEndpoint {
        address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        setting: "--metrics-port",
    };
    Ok(Settings {
        node,
        identity,
        metrics: args.metrics_port.map(|port| endpoint(port.get())),
        work: Work::Followed(Source {
            namespace: config_map.namespace.clone(),
            name: config_map.name.clone(),
            host_root: args.host_root.clone(),
            mounted: args.host_paths.clone(),
            address: node_address(&variable)?,
        }),
    })
}

/// The address of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Name of the setting, for the log.
    pub setting: &'static str,
}

/// A probe with its condition.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSettings {
    /// Type of the condition.
    pub condition_type: String,
    /// The check of the probe.
    pub check: Check,
    /// Time from the start to the first probe.
    pub initial_delay: Duration,
    /// Time between the starts of two probes.
    pub period: Duration,
    /// How the probe runs while the node waits for the condition.
    pub startup: Option<Startup>,
    /// Time after which a probe counts as failed.
    pub timeout: Duration,
    /// How many equal outcomes decide.
    pub thresholds: Thresholds,
}

/// How a probe runs until its condition has the required status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Time between the starts of two probes.
    pub period: Duration,
    /// The required outcome.
    pub healthy: bool,
}

/// A missing or invalid setting. Each message is one line with the setting and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A required variable is not set, or empty.
    #[error("{variable} is not set: {remedy}")]
    Missing {
        /// The environment variable.
        variable: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// A variable has a value that cannot be used.
    #[error("{variable} is {value:?}, which {problem}: {remedy}")]
    Invalid {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The problem.
        problem: String,
        /// The remedy.
        remedy: &'static str,
    },
}

/// Returns what is wrong with a condition type. The rules are those of the CRD.
fn condition_type_problem(condition_type: &str) -> Option<String> {
    if condition_type.is_empty() || condition_type.chars().count() > 316 {
        return Some("is not a condition type of 1 to 316 characters".into());
    }
    KUBELET_CONDITIONS.contains(&condition_type).then(|| "is a condition that kubelet owns".into())
}

/// Reads the node's name, which both forms need.
fn node_name(variable: impl Fn(&str) -> Option<String>) -> Result<String, SettingsError> {
    const REMEDY: &str =
        "let the pod set it from the field spec.nodeName (env, valueFrom, fieldRef)";
    let name = variable(NODE_NAME_ENV)
        .filter(|name| !name.is_empty())
        .ok_or(SettingsError::Missing { variable: NODE_NAME_ENV, remedy: REMEDY })?;
    // The name is used in a path and a header, so only a DNS subdomain (RFC 1123) is accepted.
    let is_name = name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    if is_name {
        Ok(name)
    } else {
        Err(SettingsError::Invalid {
            variable: NODE_NAME_ENV,
            value: name,
            problem: "is not the name of a node".into(),
            remedy: REMEDY,
        })
    }
}

/// Reads the node's address, which only some probes need.
fn node_address(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<IpAddr>, SettingsError> {
    let address = variable(NODE_ADDRESS_ENV).filter(|address| !address.is_empty());
    let Some(address) = address else { return Ok(None) };
    match address.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(SettingsError::Invalid {
            variable: NODE_ADDRESS_ENV,
            value: address,
            problem: "is not an IP address".into(),
            remedy: "let the pod set it from the field status.hostIP (env, valueFrom, fieldRef)",
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn a_node_address_is_an_ip_address_or_not_set() {
        let read = |address: &str| node_address(|_| Some(address.to_owned()));
        assert_eq!(read("").unwrap(), None);
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(read(address).unwrap().unwrap().to_string(), address);
        }
        let message = read("node-a").unwrap_err().to_string();
        assert!(message.starts_with("NODE_ADDRESS is \"node-a\""), "{message}");
    }

    #[test]
    fn a_node_name_is_a_dns_subdomain() {
        let read = |name: &str| node_name(|_| Some(name.to_owned()));
        for good in ["a", "node-1", "ip-10-0-0-1.ec2.internal", "0"] {
            assert_eq!(read(good).unwrap(), good);
        }
        for bad in
            ["..", "a/b", "a/../b", "Node", "a..b", "-a", "a-", "a b", "a\nb", &"a".repeat(254)]
        {
            let message = read(bad).unwrap_err().to_string();
            assert!(message.starts_with("NODE_NAME is "), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
        assert!(matches!(read(""), Err(SettingsError::Missing { variable: "NODE_NAME", .. })));
    }
}
