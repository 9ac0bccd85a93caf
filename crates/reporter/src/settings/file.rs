//! The configuration file of the operator: a [`ReporterConfig`] in a mounted file, with the node's name in the
//! environment.
//!
//! The API server has validated the rule. The reporter validates the file again, because it may be written by
//! hand, and a period of zero must not become a busy loop.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use kube::core::Selector;
use node_readiness_api::{ConditionStatus, Probe, ReporterAccess, ReporterConfig};

use super::{
    MetricsEndpoint, ProbeSettings, Settings, SettingsError, Startup,
    check::{Host, Problem, at_least_one, check},
    condition_type_problem, node_address, node_name,
};
use crate::{threshold::Thresholds, yields::Yields};

/// Reads the file. Paths of the node are below `host_root`.
///
/// # Errors
/// When `NODE_NAME`, `NODE_ADDRESS` or the file is missing or wrong; see [`SettingsError`].
pub fn load(
    path: &Path,
    host_root: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, SettingsError> {
    let node = node_name(&variable)?;
    let host = Host { root: host_root, address: node_address(&variable)? };
    let json = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
    let config = ReporterConfig::from_json(&json)
        .map_err(|source| SettingsError::Malformed { path: path.into(), source })?;
    settings(node, &config, host).map_err(|Problem { field, problem }| SettingsError::Field {
        path: path.into(),
        field,
        problem,
    })
}

fn settings(node: String, config: &ReporterConfig, host: Host<'_>) -> Result<Settings, Problem> {
    let heartbeat = seconds(config.heartbeat_seconds, "heartbeatSeconds")?;
    if config.probes.is_empty() {
        return Err(Problem::new("probes", "is empty: list at least one probe"));
    }
    let mut probes = Vec::<ProbeSettings>::with_capacity(config.probes.len());
    for (index, probe) in config.probes.iter().enumerate() {
        let required = config.required.get(&probe.condition_type).copied();
        let probe = probe_settings(probe, required, host, &probes).map_err(|mut problem| {
            problem.field = format!("probes[{index}].{}", problem.field);
            problem
        })?;
        probes.push(probe);
    }
    Ok(Settings {
        node,
        impersonate: config.access == ReporterAccess::ConstrainedImpersonation,
        heartbeat,
        metrics: metrics(config.metrics_port)?,
        probes,
        yields: yields(config)?,
    })
}

fn yields(config: &ReporterConfig) -> Result<Yields, Problem> {
    let selectors = config.yields.iter().map(|(condition_type, selectors)| {
        let selectors = selectors.iter().cloned().map(Selector::try_from);
        let selectors: Vec<_> = selectors.collect::<Result<_, _>>().map_err(|error| {
            Problem::new(
                format!("yields[{condition_type}]"),
                format!("has a selector that cannot be evaluated ({error}): correct it"),
            )
        })?;
        Ok((condition_type.clone(), selectors))
    });
    selectors.collect::<Result<_, _>>().map(Yields::new)
}

fn metrics(port: Option<u16>) -> Result<Option<MetricsEndpoint>, Problem> {
    const FIELD: &str = "metricsPort";
    match port {
        None => Ok(None),
        Some(0) => Err(Problem::new(FIELD, "is 0: set a port from 1 to 65535, or none")),
        Some(port) => {
            let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            Ok(Some(MetricsEndpoint { address, setting: FIELD }))
        }
    }
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
    use std::net::IpAddr;

    use super::*;
    use crate::probe::{Check, ReasonStyle};

    const NODE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

    fn read(json: &str) -> Result<Settings, Problem> {
        let host = Host { root: Path::new("/node"), address: Some(NODE) };
        settings("node-a".into(), &ReporterConfig::from_json(json).unwrap(), host)
    }

    fn with_probe(probe: &str) -> Result<Settings, Problem> {
        read(&format!(r#"{{"rule":"r","heartbeatSeconds":300,"probes":[{probe}]}}"#))
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
        assert!(settings.impersonate);
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
            let json = format!(
                r#"{{"rule":"r","heartbeatSeconds":1,"required":{required},"probes":[{probe}]}}"#
            );
            read(&json).unwrap().probes[0].startup
        };
        let period = Duration::from_secs(2);
        assert_eq!(startup(r#"{"a":"True"}"#), Some(Startup { period, healthy: true }));
        assert_eq!(startup(r#"{"a":"False"}"#), Some(Startup { period, healthy: false }));
        assert_eq!(startup(r#"{"a":"Unknown"}"#), None);
        assert_eq!(startup("{}"), None);
    }

    #[test]
    fn access_and_metrics_are_taken_over() {
        let probes = r#""probes":[{"conditionType":"a","httpGet":{"port":1}}]"#;
        let policy = read(&format!(
            r#"{{"rule":"r","heartbeatSeconds":1,"access":"AdmissionPolicy","metricsPort":9200,{probes}}}"#
        ))
        .unwrap();
        assert!(!policy.impersonate);
        assert_eq!(policy.metrics.unwrap().address.to_string(), "[::]:9200");
        let plain = read(&format!(r#"{{"rule":"r","heartbeatSeconds":1,{probes}}}"#)).unwrap();
        assert!(plain.impersonate);
        assert_eq!(plain.metrics, None);
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
                r#"{{"rule":"r","heartbeatSeconds":1,"probes":
                    [{{"conditionType":"a","{handler}":{{"port":1,"address":"Node"}}}}]}}"#
            );
            let host = Host { root: Path::new("/node"), address: None };
            let config = ReporterConfig::from_json(&json).unwrap();
            let problem = settings("node-a".into(), &config, host).unwrap_err();
            assert_eq!(problem.field, format!("probes[0].{handler}.address"));
            assert!(problem.problem.contains("NODE_ADDRESS"), "{}", problem.problem);
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
            let problem = with_probe(&format!(r#"{{"conditionType":"a",{handler}}}"#)).unwrap_err();
            assert_eq!(problem.field, format!("probes[0].{field}"), "{handler}");
            assert!(!problem.problem.contains('\n'), "{}", problem.problem);
        }
        let port = r#"{"rule":"r","heartbeatSeconds":1,"metricsPort":0,"probes":[{"conditionType":"a","httpGet":{"port":1}}]}"#;
        assert_eq!(read(port).unwrap_err().field, "metricsPort");
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
            ("", "probes"),
        ] {
            assert_eq!(with_probe(probe).unwrap_err().field, field, "{probe}");
        }
        let no_heartbeat = r#"{"rule":"r","heartbeatSeconds":0,"probes":[]}"#;
        assert_eq!(read(no_heartbeat).unwrap_err().field, "heartbeatSeconds");
    }
}
