//! The form that the operator generates: a [`ReporterConfig`] in a mounted file, and the node's
//! name in the environment.
//!
//! The API server has checked a rule before the operator writes this file. It is checked again,
//! because a file may also be written by hand, and a period of zero must not become a busy loop.

use std::{path::Path, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use node_readiness_api::{Handler, HttpGetAction, Probe, ReporterConfig, Scheme};
use reqwest::Url;

use super::{ProbeSettings, Settings, SettingsError, condition_type_problem, node_name};
use crate::{
    probe::{Check, Dialect, HttpCheck},
    threshold::Thresholds,
};

/// Reads the file. Such a reporter always acts as its node.
///
/// # Errors
/// When `NODE_NAME` or the file is missing or wrong; see [`SettingsError`].
pub fn load(
    path: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, SettingsError> {
    let node = node_name(variable)?;
    let json = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
    let config = ReporterConfig::from_json(&json)
        .map_err(|source| SettingsError::Malformed { path: path.into(), source })?;
    settings(node, &config).map_err(|Problem { field, problem }| SettingsError::Field {
        path: path.into(),
        field,
        problem,
    })
}

/// A field that cannot be used; the file's name is the caller's to add.
#[derive(Debug, PartialEq)]
struct Problem {
    field: String,
    problem: String,
}

fn settings(node: String, config: &ReporterConfig) -> Result<Settings, Problem> {
    let heartbeat = seconds(config.heartbeat_seconds, || "heartbeatSeconds".into())?;
    if config.probes.is_empty() {
        return Err(Problem {
            field: "probes".into(),
            problem: "is empty: list at least one probe".into(),
        });
    }
    let mut probes = Vec::<ProbeSettings>::with_capacity(config.probes.len());
    for (index, probe) in config.probes.iter().enumerate() {
        let probe = probe_settings(index, probe)?;
        if probes.iter().any(|other| other.condition_type == probe.condition_type) {
            return Err(Problem {
                field: format!("probes[{index}].conditionType"),
                problem: format!(
                    "repeats {:?}: give each condition one probe",
                    probe.condition_type
                ),
            });
        }
        probes.push(probe);
    }
    Ok(Settings { node, impersonate: true, heartbeat, probes })
}

fn probe_settings(index: usize, probe: &Probe) -> Result<ProbeSettings, Problem> {
    let field = |name: &str| format!("probes[{index}].{name}");
    if let Some(problem) = condition_type_problem(&probe.condition_type) {
        return Err(Problem {
            field: field("conditionType"),
            problem: format!(
                "{:?} {problem}: report a condition of your own, such as example.com/AgentReady",
                probe.condition_type
            ),
        });
    }
    let Handler::HttpGet(http_get) = &probe.handler;
    Ok(ProbeSettings {
        condition_type: probe.condition_type.clone(),
        check: Check::Http(http_check(http_get, field)?),
        initial_delay: Duration::from_secs(probe.initial_delay_seconds.into()),
        period: seconds(probe.period_seconds, || field("periodSeconds"))?,
        timeout: seconds(probe.timeout_seconds, || field("timeoutSeconds"))?,
        thresholds: Thresholds {
            success: at_least_one(probe.success_threshold, || field("successThreshold"))?,
            failure: at_least_one(probe.failure_threshold, || field("failureThreshold"))?,
        },
    })
}

fn http_check(
    action: &HttpGetAction,
    field: impl Fn(&str) -> String,
) -> Result<HttpCheck, Problem> {
    let scheme = match action.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    if action.port == 0 {
        return Err(Problem {
            field: field("httpGet.port"),
            problem: "is 0: set a port from 1 to 65535".into(),
        });
    }
    let url = Some(&action.path)
        .filter(|path| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()))
        .and_then(|path| Url::parse(&format!("{scheme}://localhost:{}{path}", action.port)).ok())
        .ok_or_else(|| Problem {
            field: field("httpGet.path"),
            problem: format!(
                "{:?} is not a path: start it with / and use printable ASCII without spaces",
                action.path
            ),
        })?;
    let mut headers = HeaderMap::new();
    for (index, header) in action.http_headers.iter().enumerate() {
        let (Ok(name), Ok(value)) =
            (header.name.parse::<HeaderName>(), header.value.parse::<HeaderValue>())
        else {
            return Err(Problem {
                field: field(&format!("httpGet.httpHeaders[{index}]")),
                problem: format!(
                    "{:?} is not a header: use a token as its name and printable ASCII as its value",
                    header.name
                ),
            });
        };
        headers.append(name, value);
    }
    Ok(HttpCheck { url, headers, dialect: Dialect::PodProbe })
}

fn seconds(value: u32, field: impl Fn() -> String) -> Result<Duration, Problem> {
    at_least_one(value, field).map(|seconds| Duration::from_secs(seconds.into()))
}

fn at_least_one(value: u32, field: impl Fn() -> String) -> Result<u32, Problem> {
    if value == 0 {
        return Err(Problem { field: field(), problem: "is 0: set it to 1 or more".into() });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn read(json: &str) -> Result<Settings, Problem> {
        settings("node-a".into(), &ReporterConfig::from_json(json).unwrap())
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
        let Check::Http(check) = &probe.check;
        assert_eq!(check.url.as_str(), "https://localhost:9099/readiness?full=1");
        assert_eq!(check.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(check.dialect, Dialect::PodProbe);
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
