//! Probes: what a reporter does on its node to observe a condition.
//!
//! Fields and their defaults mean what they mean in a Pod's probe, so that nobody has to learn a
//! second vocabulary.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One observation of the node, made again and again, that decides one node condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!(self.conditionType in ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure', 'NetworkUnavailable'])"
).message("conditionType is a condition that kubelet owns; report a condition of your own, such as example.com/AgentReady").field_path(".conditionType"))]
pub struct Probe {
    /// Type of the node condition that this probe decides. It must be one of the rule's
    /// conditions, and not one that kubelet owns.
    #[schemars(length(min = 1, max = 316))]
    pub condition_type: String,

    /// What is probed.
    #[serde(flatten)]
    pub handler: Handler,

    /// Seconds from the reporter's start to the first probe.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub initial_delay_seconds: u32,

    /// Seconds between the starts of two probes.
    #[serde(default = "defaults::period_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub period_seconds: u32,

    /// Seconds after which a probe that has not answered counts as failed.
    #[serde(default = "defaults::timeout_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: u32,

    /// Successes in a row that turn the condition True.
    #[serde(default = "defaults::success_threshold")]
    #[schemars(range(min = 1, max = 1000))]
    pub success_threshold: u32,

    /// Failures in a row that turn the condition False.
    #[serde(default = "defaults::failure_threshold")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: u32,
}

/// The kinds of probe; exactly one is set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// An HTTP GET to the node. A status from 200 to 399 is a success.
    HttpGet(HttpGetAction),
}

/// An HTTP GET to a port of the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGetAction {
    /// Port on localhost. On the host network, which is the default, that is the node's.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Path, with a query if need be.
    #[serde(default = "defaults::path")]
    #[schemars(length(max = 2048), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,

    /// HTTPS certificates are not verified, as in a Pod's probe.
    #[serde(default)]
    pub scheme: Scheme,

    /// Headers to send. Names may repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub http_headers: Vec<HttpHeader>,
}

/// A header of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct HttpHeader {
    /// Name, a token of RFC 9110.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[-!#$%&'*+.^_`|~A-Za-z0-9]+$"))]
    pub name: String,
    /// Value, printable ASCII.
    #[schemars(length(max = 1024), regex(pattern = r"^[ -~]*$"))]
    pub value: String,
}

/// Scheme of an HTTP probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// Defaults of a Pod's probe.
mod defaults {
    pub(super) fn period_seconds() -> u32 {
        10
    }
    pub(super) fn timeout_seconds() -> u32 {
        1
    }
    pub(super) fn success_threshold() -> u32 {
        1
    }
    pub(super) fn failure_threshold() -> u32 {
        3
    }
    pub(super) fn path() -> String {
        "/".to_owned()
    }
}
