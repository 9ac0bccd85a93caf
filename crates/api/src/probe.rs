//! Probes: how a reporter observes a condition of its node.
//!
//! Fields and defaults have the meaning of a Pod's probe.

use std::net::IpAddr;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A check of the node that the reporter repeats. It decides one node condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.httpGet), has(self.tcpSocket), has(self.grpc), has(self.exec), has(self.unixSocket), has(self.file)].filter(set, set).size() == 1"
).message("set exactly one of httpGet, tcpSocket, grpc, exec, unixSocket and file"))]
#[x_kube(validation = Rule::new(
    "!(self.conditionType in ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure', 'NetworkUnavailable'])"
).message("conditionType is a condition that kubelet owns; report a condition of your own, such as example.com/AgentReady").field_path(".conditionType"))]
pub struct Probe {
    /// Type of the node condition that this probe decides. It must be one of the rule's conditions, and not one
    /// of kubelet's.
    #[schemars(length(min = 1, max = 316))]
    pub condition_type: String,

    /// The kind of the probe.
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

    /// Seconds between the starts of two probes until the condition has its required status. It applies only if
    /// it is less than `periodSeconds`. Failures still count once in `periodSeconds`.
    #[serde(default = "defaults::startup_period_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub startup_period_seconds: u32,

    /// Seconds after which a probe without a response fails.
    #[serde(default = "defaults::timeout_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: u32,

    /// Successes in a row that make the condition True.
    #[serde(default = "defaults::success_threshold")]
    #[schemars(range(min = 1, max = 1000))]
    pub success_threshold: u32,

    /// Failures in a row that make the condition False.
    #[serde(default = "defaults::failure_threshold")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: u32,
}

/// The kinds of probe; exactly one is set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// An HTTP GET. It succeeds with a status from 200 to 399.
    HttpGet(HttpGetAction),
    /// A TCP connection. It succeeds if the connection is accepted.
    TcpSocket(TcpSocketAction),
    /// A call of the gRPC health service. It succeeds if the response is SERVING.
    Grpc(GrpcAction),
    /// A command in the reporter's container. It succeeds if the command exits with 0. It needs the operator's
    /// flag `--allow-exec-probes`.
    Exec(ExecAction),
    /// A connection to a Unix socket of the node. It succeeds if the connection is accepted.
    UnixSocket(UnixSocketAction),
    /// A search for files of the node. It succeeds if at least one exists.
    File(FileAction),
}

/// An HTTP GET.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.host) || self.address == 'Localhost'").message("host and address: Node exclude each other; remove one").field_path(".host"))]
pub struct HttpGetAction {
    /// The address of the node to probe, if `host` is not set.
    #[serde(default)]
    pub address: ProbeAddress,

    /// Name or IP address of a host other than the node. It needs the operator's flag `--allow-probe-host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST))]
    pub host: Option<String>,

    /// Port to connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Path, with an optional query.
    #[serde(default = "defaults::path")]
    #[schemars(length(max = 2048), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,

    /// HTTP or HTTPS. Certificates are not verified, as in a Pod's probe.
    #[serde(default)]
    pub scheme: Scheme,

    /// Headers to send. Names may repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub http_headers: Vec<HttpHeader>,

    /// A regular expression that must match a part of the first 10 KiB of the body, in addition to a successful
    /// status. The reporter never shows the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub body_matches: Option<String>,
}

/// A TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.host) || self.address == 'Localhost'").message("host and address: Node exclude each other; remove one").field_path(".host"))]
pub struct TcpSocketAction {
    /// The address of the node to probe, if `host` is not set.
    #[serde(default)]
    pub address: ProbeAddress,

    /// Name or IP address of a host other than the node. It needs the operator's flag `--allow-probe-host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST))]
    pub host: Option<String>,

    /// Port to connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// A call of `grpc.health.v1.Health/Check` on the node, without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcAction {
    /// The address of the node to probe.
    #[serde(default)]
    pub address: ProbeAddress,

    /// Port to connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Name of the service to check. By default the server as a whole is checked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub service: String,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "size(self.command[0]) > 0"
).message("command must begin with the name of a program").field_path(".command"))]
pub struct ExecAction {
    /// The program, by its absolute path or by a name in the image's search path, and its arguments. There is
    /// no shell unless you name one.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

/// A connection to a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(PLAIN_PATH).message("path must be absolute and without empty, '.' or '..' parts").field_path(".path"))]
pub struct UnixSocketAction {
    /// Absolute path of the socket on the node. It needs the operator's flag `--allow-host-path` for a
    /// directory above it. Its directory is mounted read-only.
    #[schemars(length(min = 1, max = 100), regex(pattern = PATH_CHARACTERS))]
    pub path: String,
}

/// A search for files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(PLAIN_PATH).message("path must be absolute and without empty, '.' or '..' parts").field_path(".path"))]
pub struct FileAction {
    /// Absolute path on the node. Its last parts may be patterns with `*`, `?` and `[...]`, none of which
    /// matches a slash. It needs the operator's flag `--allow-host-path` for a directory above it. The
    /// directory before the first pattern is mounted read-only.
    #[schemars(length(min = 1, max = 1024), regex(pattern = PATH_CHARACTERS))]
    pub path: String,

    /// Maximum age of a file, in seconds since its last modification. An older file does not count. By default
    /// files of any age count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub max_age_seconds: Option<u32>,

    /// Whether to ignore files that were last modified before the node booted, by the node's clock.
    #[serde(default)]
    pub since_boot: bool,
}

/// The address of the node that a probe uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProbeAddress {
    /// The loopback address. It is the node's if the reporter uses the host network, which is the default.
    #[default]
    Localhost,
    /// The node's own address, `status.hostIP` of the reporter's pod, for an agent that does not listen on the
    /// loopback address.
    Node,
}

/// The maximum memory of a compiled [`bodyMatches`](HttpGetAction::body_matches), in bytes. It also bounds the
/// matching time, which is proportional to it and to the body. The operator refuses a pattern that the reporter
/// would refuse.
pub const BODY_PATTERN_MEMORY: usize = 64 * 1024;

/// Returns whether a probe can use a host: a DNS name, or an IPv4 or IPv6 address. A name whose last part is a
/// number is invalid, because a URL treats it as an IPv4 address (WHATWG URL, "ends in a number"). The operator
/// refuses a host that the reporter would refuse.
pub fn is_host(host: &str) -> bool {
    let is_name = !host.is_empty()
        && !host.starts_with(['-', '.'])
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    (is_name && !is_number) || host.parse::<IpAddr>().is_ok()
}

/// Returns a part of a [`file.path`](FileAction::path) in the syntax of the glob crate. In that crate `**`
/// matches several directories. In a rule it means the same as `*`, as in a shell.
pub fn single_stars(part: &str) -> String {
    let mut single = part.to_owned();
    while single.contains("**") {
        single = single.replace("**", "*");
    }
    single
}

/// The pattern of a host: a DNS name, or an IPv4 or IPv6 address.
const HOST: &str = r"^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$";

/// Printable ASCII without spaces.
const PATH_CHARACTERS: &str = "^[!-~]+$";

/// CEL: an absolute path below the root directory without special parts.
const PLAIN_PATH: &str = "self.path.startsWith('/') && self.path.substring(1).split('/').all(part, !(part in ['', '.', '..']))";

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
    pub(super) fn startup_period_seconds() -> u32 {
        1
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in
            ["localhost", "a.example.com", "node-1", "1.a", "10.0.0.25", "::1", "fe80::a", "a."]
        {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            "10.0.0.256",
            "node.1",
            "10.1",
            "a.0x1f",
            "::::",
            "-a",
            "a_b",
            "a:1",
            "[::1]",
            "1.",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn several_stars_equal_one() {
        for (part, expected) in [("gpu", "gpu"), ("*", "*"), ("a**b***", "a*b*")] {
            assert_eq!(single_stars(part), expected);
        }
    }
}
