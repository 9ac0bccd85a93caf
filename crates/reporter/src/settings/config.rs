//! The configuration of a reporter set: a [`ReporterConfig`], validated.
//!
//! The API server has validated the rules, and the operator has checked them. The reporter validates them again,
//! because a period of zero must not become a busy loop.

use std::time::Duration;

use kube::core::Selector;
use node_readiness_api::{ConditionStatus, Probe, ReporterConfig, RuleProbes};

pub use super::check::Host;
use super::{
    ProbeSettings, Startup,
    check::{Problem, at_least_one, check},
    condition_type_problem,
};
use crate::threshold::Thresholds;

/// The rules of a set, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The rules.
    pub rules: Vec<RuleSettings>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSettings {
    /// The nodes that it covers.
    pub selector: Selector,
    /// The time after which an unchanged condition is renewed.
    pub heartbeat: Duration,
    /// The probes, one for each condition type.
    pub probes: Vec<ProbeSettings>,
    /// The conditions that reporters of another set write for it.
    pub written_by_other_set: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON of the type.
    #[error(
        "not a reporter configuration ({0}): use a reporter and an operator of the same release"
    )]
    Malformed(#[from] serde_json::Error),
    /// A field has a value that cannot be used.
    #[error("{field} {problem}")]
    Field {
        /// The field with its path.
        field: String,
        /// The problem and a valid value.
        problem: String,
    },
}

impl Config {
    /// Parses and validates a configuration. Paths of the node are below the host's root.
    ///
    /// # Errors
    ///
    /// When it is not JSON of the type, or a field has a value that cannot be used.
    pub fn parse(json: &str, host: Host<'_>) -> Result<Self, ConfigError> {
        let config = ReporterConfig::from_json(json)?;
        let rules = config.rules.iter().map(|rule| {
            rule_settings(rule, host).map_err(|Problem { field, problem }| ConfigError::Field {
                field: format!("rules[{}].{field}", rule.name),
                problem,
            })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

fn rule_settings(rule: &RuleProbes, host: Host<'_>) -> Result<RuleSettings, Problem> {
    let selector = Selector::try_from(rule.node_selector.clone()).map_err(|error| {
        Problem::new("nodeSelector", format!("cannot be evaluated ({error}): correct it"))
    })?;
    let mut probes = Vec::<ProbeSettings>::with_capacity(rule.probes.len());
    for (index, probe) in rule.probes.iter().enumerate() {
        let required = rule.required.get(&probe.condition_type).copied();
        let probe = probe_settings(probe, required, host, &probes).map_err(|mut problem| {
            problem.field = format!("probes[{index}].{}", problem.field);
            problem
        })?;
        probes.push(probe);
    }
    Ok(RuleSettings {
        selector,
        heartbeat: seconds(rule.heartbeat_seconds, "heartbeatSeconds")?,
        probes,
        written_by_other_set: rule.written_by_other_set.clone(),
    })
}

/// One probe, after `others`.
fn probe_settings(
    probe: &Probe,
    required: Option<ConditionStatus>,
    host: Host<'_>,
    others: &[ProbeSettings],
) -> Result<ProbeSettings, Problem> {
    let condition_type = &probe.condition_type;
    if let Some(problem) = condition_type_problem(condition_type) {
        return Err(Problem::new(
            "conditionType",
            format!(
                "{condition_type:?} {problem}: report a condition of your own, such as \
                 example.com/AgentReady"
            ),
        ));
    }
    if others.iter().any(|other| other.condition_type == *condition_type) {
        let problem = format!("repeats {condition_type:?}: give each condition one probe");
        return Err(Problem::new("conditionType", problem));
    }
    Ok(ProbeSettings {
        condition_type: condition_type.clone(),
        check: check(&probe.handler, host)?,
        initial_delay: Duration::from_secs(probe.initial_delay_seconds.into()),
        period: seconds(probe.period_seconds, "periodSeconds")?,
        startup: startup(probe, required)?,
        timeout: seconds(probe.timeout_seconds, "timeoutSeconds")?,
        thresholds: Thresholds {
            success: at_least_one(probe.success_threshold, "successThreshold")?,
            failure: at_least_one(probe.failure_threshold, "failureThreshold")?,
        },
    })
}

/// No verdict makes a condition Unknown, so no probe waits for that.
fn startup(probe: &Probe, required: Option<ConditionStatus>) -> Result<Option<Startup>, Problem> {
    let period = seconds(probe.startup_period_seconds, "startupPeriodSeconds")?;
    let healthy = match required {
        Some(ConditionStatus::True) => true,
        Some(ConditionStatus::False) => false,
        Some(ConditionStatus::Unknown) | None => return Ok(None),
    };
    Ok(Some(Startup { period, healthy }))
}

fn seconds(value: u32, field: &str) -> Result<Duration, Problem> {
    at_least_one(value, field).map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::{
        net::{IpAddr, Ipv6Addr},
        path::Path,
    };

    use super::*;
    use crate::probe::{Check, ReasonStyle};

    const NODE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

    /// Reads a configuration of one rule with these fields.
    fn read(fields: &str) -> Result<RuleSettings, ConfigError> {
        let host = Host { root: Path::new("/node"), address: Some(NODE) };
        let json = format!(r#"{{"rules":[{{"name":"r","uid":"u",{fields}}}]}}"#);
        Config::parse(&json, host).map(|mut config| config.rules.remove(0))
    }

    fn with_probe(probe: &str) -> Result<RuleSettings, ConfigError> {
        read(&format!(r#""nodeSelector":{{}},"heartbeatSeconds":300,"probes":[{probe}]"#))
    }

    /// The field and the problem of a configuration that cannot be used.
    fn refused(read: Result<RuleSettings, ConfigError>) -> (String, String) {
        match read.unwrap_err() {
            ConfigError::Field { field, problem } => (field, problem),
            ConfigError::Malformed(error) => panic!("{error}"),
        }
    }

    #[test]
    fn everything_of_a_probe_is_taken_over() {
        let settings = with_probe(
            r#"{"conditionType":"example.com/Ready","initialDelaySeconds":3,"periodSeconds":5,
                "timeoutSeconds":2,"successThreshold":4,"failureThreshold":6,
                "httpGet":{"port":9099,"path":"/readiness?full=1","scheme":"HTTPS",
                           "httpHeaders":[{"name":"X-A","value":"1"},{"name":"X-A","value":"2"}]}}"#,
        )
        .unwrap();
        assert_eq!(settings.heartbeat, Duration::from_mins(5));
        let probe = &settings.probes[0];
        assert_eq!(probe.condition_type, "example.com/Ready");
        assert_eq!(
            (probe.initial_delay, probe.period, probe.timeout),
            (Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(2))
        );
        assert_eq!(probe.thresholds, Thresholds { success: 4, failure: 6 });
        let Check::Http(check) = &probe.check else { unreachable!() };
        assert_eq!(check.url.as_str(), "https://localhost:9099/readiness?full=1");
        assert_eq!(check.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(check.reason_style, ReasonStyle::PodProbe);
    }

    #[test]
    fn a_probe_that_somebody_waits_for_runs_more_often() {
        let startup = |required: &str| {
            let probe = r#"{"conditionType":"a","startupPeriodSeconds":2,"httpGet":{"port":1}}"#;
            let fields = format!(
                r#""nodeSelector":{{}},"heartbeatSeconds":1,"required":{required},"probes":[{probe}]"#
            );
            read(&fields).unwrap().probes[0].startup
        };
        let period = Duration::from_secs(2);
        assert_eq!(startup(r#"{"a":"True"}"#), Some(Startup { period, healthy: true }));
        assert_eq!(startup(r#"{"a":"False"}"#), Some(Startup { period, healthy: false }));
        assert_eq!(startup(r#"{"a":"Unknown"}"#), None);
        assert_eq!(startup("{}"), None);
    }

    #[test]
    fn every_kind_of_probe_is_taken_over() {
        for (handler, expected) in [
            (r#""httpGet":{"port":1,"host":"::1"}"#, "http://[::1]:1/"),
            (r#""httpGet":{"port":1,"bodyMatches":"^ok"}"#, "BodyPattern"),
            (r#""tcpSocket":{"port":1}"#, r#"TcpCheck { host: "localhost", port: 1 }"#),
            (r#""tcpSocket":{"port":1,"host":"db.example.com"}"#, "db.example.com"),
            (r#""grpc":{"port":1,"service":"s"}"#, r#"port: 1, service: "s" }"#),
            (r#""httpGet":{"port":1,"address":"Node"}"#, "http://[2001:db8::1]:1/"),
            (r#""httpGet":{"port":1,"address":"Localhost"}"#, "http://localhost:1/"),
            (r#""tcpSocket":{"port":1,"address":"Node"}"#, r#"host: "2001:db8::1""#),
            (r#""grpc":{"port":1,"address":"Node"}"#, r#"host: "2001:db8::1""#),
            (r#""exec":{"command":["p","a"]}"#, r#"ExecCheck { program: "p", arguments: ["a"] }"#),
            (
                r#""unixSocket":{"path":"/run/x.sock"}"#,
                r#"UnixCheck { root: "/node", path: HostPath("/run/x.sock") }"#,
            ),
            (
                r#""file":{"path":"/run/x*","maxAgeSeconds":5}"#,
                "max_age: Some(5s), since_boot: false",
            ),
            (r#""file":{"path":"/run/x*","sinceBoot":true}"#, "max_age: None, since_boot: true"),
        ] {
            let settings = with_probe(&format!(r#"{{"conditionType":"a",{handler}}}"#)).unwrap();
            let check = format!("{:?}", settings.probes[0].check);
            let url = match &settings.probes[0].check {
                Check::Http(check) => check.url.as_str(),
                _ => "",
            };
            assert!(check.contains(expected) || url == expected, "{expected} in {check}");
        }
    }

    #[test]
    fn a_pod_without_its_nodes_address_names_the_setting() {
        for handler in ["httpGet", "tcpSocket", "grpc"] {
            let json = format!(
                r#"{{"rules":[{{"name":"r","uid":"u","nodeSelector":{{}},"heartbeatSeconds":1,"probes":
                    [{{"conditionType":"a","{handler}":{{"port":1,"address":"Node"}}}}]}}]}}"#
            );
            let host = Host { root: Path::new("/node"), address: None };
            let error = Config::parse(&json, host).unwrap_err().to_string();
            let field = format!("rules[r].probes[0].{handler}.address ");
            assert!(error.starts_with(&field) && error.contains("NODE_ADDRESS"), "{error}");
        }
    }

    #[test]
    fn each_wrong_field_of_a_handler_is_named() {
        for (handler, field) in [
            (r#""httpGet":{"port":1,"host":"a/b"}"#, "httpGet.host"),
            (r#""httpGet":{"port":1,"host":"user@a"}"#, "httpGet.host"),
            (r#""httpGet":{"port":1,"bodyMatches":"("}"#, "httpGet.bodyMatches"),
            (r#""httpGet":{"port":1,"bodyMatches":"(a{1000}){1000}"}"#, "httpGet.bodyMatches"),
            (r#""tcpSocket":{"port":0}"#, "tcpSocket.port"),
            (r#""tcpSocket":{"port":1,"host":""}"#, "tcpSocket.host"),
            (r#""tcpSocket":{"port":1,"host":"a:1"}"#, "tcpSocket.host"),
            (r#""grpc":{"port":0}"#, "grpc.port"),
            (r#""exec":{"command":[]}"#, "exec.command"),
            (r#""exec":{"command":[""]}"#, "exec.command"),
            (r#""exec":{"command":["a\u0000b"]}"#, "exec.command"),
            (r#""unixSocket":{"path":"run/x"}"#, "unixSocket.path"),
            (r#""unixSocket":{"path":"/run/../x"}"#, "unixSocket.path"),
            (r#""file":{"path":"/run/./x"}"#, "file.path"),
            (r#""file":{"path":"/run/[x"}"#, "file.path"),
            (r#""file":{"path":"/x","maxAgeSeconds":0}"#, "file.maxAgeSeconds"),
        ] {
            let probe = with_probe(&format!(r#"{{"conditionType":"a",{handler}}}"#));
            let (found, problem) = refused(probe);
            assert_eq!(found, format!("rules[r].probes[0].{field}"), "{handler}");
            assert!(!problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (probe, field) in [
            (r#"{"conditionType":"Ready","httpGet":{"port":1}}"#, "probes[0].conditionType"),
            (r#"{"conditionType":"","httpGet":{"port":1}}"#, "probes[0].conditionType"),
            (r#"{"conditionType":"a","httpGet":{"port":0}}"#, "probes[0].httpGet.port"),
            (r#"{"conditionType":"a","httpGet":{"port":1,"path":"x"}}"#, "probes[0].httpGet.path"),
            (
                r#"{"conditionType":"a","httpGet":{"port":1,"path":"/a b"}}"#,
                "probes[0].httpGet.path",
            ),
            (
                r#"{"conditionType":"a","httpGet":{"port":1,"httpHeaders":[{"name":"a b","value":""}]}}"#,
                "probes[0].httpGet.httpHeaders[0]",
            ),
            (
                r#"{"conditionType":"a","httpGet":{"port":1},"periodSeconds":0}"#,
                "probes[0].periodSeconds",
            ),
            (
                r#"{"conditionType":"a","httpGet":{"port":1},"timeoutSeconds":0}"#,
                "probes[0].timeoutSeconds",
            ),
            (
                r#"{"conditionType":"a","httpGet":{"port":1},"successThreshold":0}"#,
                "probes[0].successThreshold",
            ),
            (
                r#"{"conditionType":"a","httpGet":{"port":1},"failureThreshold":0}"#,
                "probes[0].failureThreshold",
            ),
            (
                r#"{"conditionType":"a","httpGet":{"port":1}},{"conditionType":"a","httpGet":{"port":2}}"#,
                "probes[1].conditionType",
            ),
        ] {
            assert_eq!(refused(with_probe(probe)).0, format!("rules[r].{field}"), "{probe}");
        }
        let selector = r#"{"matchExpressions":[{"key":"a","operator":"Near"}]}"#;
        for (fields, field) in [
            (r#""nodeSelector":{},"heartbeatSeconds":0"#.to_owned(), "heartbeatSeconds"),
            (format!(r#""nodeSelector":{selector},"heartbeatSeconds":1"#), "nodeSelector"),
        ] {
            assert_eq!(refused(read(&fields)).0, format!("rules[r].{field}"), "{fields}");
        }
        assert!(matches!(read(r#""more":1"#), Err(ConfigError::Malformed(_))));
    }
}
