//! The environment variables of the Go project's reporter, for one endpoint.
//!
//! Its manifests work unchanged, so this form is as tolerant: an unusable duration falls back to its default
//! with a note in the log. A missing required variable ends the process.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::HeaderMap;
use reqwest::Url;

use super::{
    MetricsEndpoint, ProbeSettings, Settings, SettingsError, Work, condition_type_problem,
    go_duration, node_name,
};
use crate::{
    assignment::Assignment,
    identity::Identity,
    probe::{Check, HttpCheck, ReasonStyle, Roots},
    threshold::Thresholds,
};

const CONDITION_TYPE: &str = "CONDITION_TYPE";
const CHECK_ENDPOINT: &str = "CHECK_ENDPOINT";
const CHECK_INTERVAL: &str = "CHECK_INTERVAL";
const HEARTBEAT_PERIOD: &str = "HEARTBEAT_PERIOD";
const IMPERSONATE_NODE: &str = "IMPERSONATE_NODE";
const METRICS_BIND_ADDRESS: &str = "METRICS_BIND_ADDRESS";
/// An addition of this project: a PEM file with the roots that verify an https endpoint.
pub(crate) const CHECK_CA_FILE: &str = "CHECK_CA_FILE";

/// The default address of the Go project's metrics.
const METRICS_DEFAULT: &str = ":9445";

/// The timeout of a request in the Go project's reporter.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The settings, with notes for the log.
#[derive(Debug)]
pub struct FromEnv {
    /// The settings.
    pub settings: Settings,
    /// Notes for the log, each with its variable.
    pub notes: Vec<String>,
}

/// Reads the variables through `variable`.
///
/// # Errors
/// When a required variable is missing or unusable; see [`SettingsError`].
pub fn load(variable: impl Fn(&str) -> Option<String>) -> Result<FromEnv, SettingsError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut notes = Vec::new();
    let node = node_name(variable)?;
    let condition_type = condition_type(variable)?;
    let url = endpoint(variable)?;
    let period = Period { name: CHECK_INTERVAL, default: 30, least: Duration::from_millis(100) }
        .read(variable, &mut notes);
    let heartbeat = Period { name: HEARTBEAT_PERIOD, default: 300, least: Duration::from_secs(1) }
        .read(variable, &mut notes);
    let impersonate = impersonate(variable, &mut notes);
    let metrics = metrics(variable, &mut notes);
    let roots =
        variable(CHECK_CA_FILE).map_or(Roots::Bundled, |path| Roots::File(PathBuf::from(path)));
    let reason_style = ReasonStyle::Endpoint(roots);
    let check = HttpCheck { url, headers: HeaderMap::new(), body: None, reason_style };
    let probe = ProbeSettings {
        condition_type: condition_type.clone(),
        check: Check::Http(check),
        initial_delay: Duration::ZERO,
        period,
        startup: None,
        timeout: TIMEOUT,
        thresholds: Thresholds { success: 1, failure: 1 },
    };
    let identity =
        if impersonate { Identity::Node(node.clone()) } else { Identity::ServiceAccount };
    let probes = [(condition_type, probe)].into();
    let work = Work::Fixed(Assignment { probes, heartbeat, ..Assignment::default() });
    let settings = Settings { node, identity, metrics, work };
    Ok(FromEnv { settings, notes })
}

fn condition_type(variable: impl Fn(&str) -> Option<String>) -> Result<String, SettingsError> {
    let condition_type = variable(CONDITION_TYPE).ok_or(SettingsError::Missing {
        variable: CONDITION_TYPE,
        remedy: "set it to the node condition to report, such as example.com/AgentReady, or start the reporter with --config",
    })?;
    match condition_type_problem(&condition_type) {
        None => Ok(condition_type),
        Some(problem) => Err(SettingsError::Invalid {
            variable: CONDITION_TYPE,
            value: condition_type,
            problem,
            remedy: "report a condition of your own, such as example.com/AgentReady",
        }),
    }
}

fn endpoint(variable: impl Fn(&str) -> Option<String>) -> Result<Url, SettingsError> {
    const REMEDY: &str = "set it to the URL to probe, such as http://localhost:9099/readiness";
    let text = variable(CHECK_ENDPOINT)
        .ok_or(SettingsError::Missing { variable: CHECK_ENDPOINT, remedy: REMEDY })?;
    let problem = match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return Ok(url),
        Ok(_) => "is not an http or https URL".to_owned(),
        Err(error) => format!("is not a URL ({error})"),
    };
    Err(SettingsError::Invalid { variable: CHECK_ENDPOINT, value: text, problem, remedy: REMEDY })
}

fn impersonate(variable: impl Fn(&str) -> Option<String>, notes: &mut Vec<String>) -> bool {
    match variable(IMPERSONATE_NODE).as_deref() {
        Some("true") => true,
        None | Some("false") => false,
        Some(other) => {
            notes.push(format!(
                "{IMPERSONATE_NODE} is {other:?}, which counts as off: only \"true\" turns it on"
            ));
            false
        }
    }
}

/// An unusable address turns metrics off and does not end the reporter, as a port in use would not.
fn metrics(
    variable: impl Fn(&str) -> Option<String>,
    notes: &mut Vec<String>,
) -> Option<MetricsEndpoint> {
    let text = variable(METRICS_BIND_ADDRESS).unwrap_or_else(|| METRICS_DEFAULT.to_owned());
    if text == "0" {
        return None;
    }
    let address = bind_address(&text);
    if address.is_none() {
        notes.push(format!(
            "{METRICS_BIND_ADDRESS} is {text:?}, which is not :PORT, IP:PORT, localhost:PORT, or 0 \
             for none: serving no metrics"
        ));
    }
    address.map(|address| MetricsEndpoint { address, setting: METRICS_BIND_ADDRESS })
}

/// Parses an address like Go programs do: without a host it is every address of the machine.
fn bind_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    match host {
        "" => Some((Ipv6Addr::UNSPECIFIED, port.parse().ok()?).into()),
        "localhost" => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        _ => text.parse().ok(),
    }
}

/// A variable with a duration that has a default.
struct Period {
    name: &'static str,
    /// Seconds.
    default: u64,
    /// The shortest value, so a typo causes no busy loop.
    least: Duration,
}

impl Period {
    fn read(self, variable: impl Fn(&str) -> Option<String>, notes: &mut Vec<String>) -> Duration {
        let Self { name, default, least } = self;
        let default = Duration::from_secs(default);
        let Some(text) = variable(name) else { return default };
        let Some(duration) = go_duration::parse(&text) else {
            notes.push(format!(
                "{name} is {text:?}, which is not a duration such as 30s or 5m: using {default:?}"
            ));
            return default;
        };
        match Duration::try_from(duration) {
            Ok(duration) if duration >= least => duration,
            Ok(duration) if !duration.is_zero() => {
                notes.push(format!("{name} is {text:?}, shorter than allowed: using {least:?}"));
                least
            }
            _ => {
                notes.push(format!("{name} is {text:?}, which is not positive: using {default:?}"));
                default
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    const REQUIRED: [(&str, &str); 3] = [
        ("NODE_NAME", "node-a"),
        ("CONDITION_TYPE", "example.com/Ready"),
        ("CHECK_ENDPOINT", "http://localhost:9099/readiness"),
    ];

    fn with(extra: &[(&str, &str)]) -> Result<FromEnv, SettingsError> {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        load(|name| find(extra, name).or_else(|| find(&REQUIRED, name)))
    }

    /// The one probe, with its heartbeat.
    fn fixed(settings: &Settings) -> (&ProbeSettings, Duration) {
        let Work::Fixed(assignment) = &settings.work else { panic!("{settings:?}") };
        (&assignment.probes["example.com/Ready"], assignment.heartbeat)
    }

    #[test]
    fn defaults_are_the_go_projects() {
        let FromEnv { settings, notes } = with(&[]).unwrap();
        assert_eq!(notes, [""; 0]);
        assert_eq!(settings.identity, Identity::ServiceAccount);
        assert_eq!(settings.metrics.unwrap().address.to_string(), "[::]:9445");
        let (probe, heartbeat) = fixed(&settings);
        assert_eq!(heartbeat, Duration::from_mins(5));
        assert_eq!(probe.period, Duration::from_secs(30));
        assert_eq!(probe.timeout, Duration::from_secs(10));
        assert_eq!(probe.thresholds, Thresholds { success: 1, failure: 1 });
        let Check::Http(check) = &probe.check else { unreachable!() };
        assert_eq!(check.reason_style, ReasonStyle::Endpoint(Roots::Bundled));
    }

    #[test]
    fn every_variable_is_read() {
        let FromEnv { settings, notes } = with(&[
            ("CHECK_INTERVAL", "1m30s"),
            ("HEARTBEAT_PERIOD", "2h"),
            ("IMPERSONATE_NODE", "true"),
            ("CHECK_CA_FILE", "/ca.pem"),
        ])
        .unwrap();
        assert_eq!(notes, [""; 0]);
        assert_eq!(settings.identity, Identity::Node("node-a".into()));
        let (probe, heartbeat) = fixed(&settings);
        assert_eq!(heartbeat, Duration::from_hours(2));
        assert_eq!(probe.period, Duration::from_secs(90));
        let Check::Http(check) = &probe.check else { unreachable!() };
        assert_eq!(check.reason_style, ReasonStyle::Endpoint(Roots::File("/ca.pem".into())));
    }

    #[test]
    fn an_unusable_duration_falls_back_with_a_note() {
        for (text, expected, note) in [
            ("soon", Duration::from_secs(30), "is not a duration"),
            ("30", Duration::from_secs(30), "is not a duration"),
            ("0", Duration::from_secs(30), "is not positive"),
            ("-5s", Duration::from_secs(30), "is not positive"),
            ("1ns", Duration::from_millis(100), "shorter than allowed"),
        ] {
            let FromEnv { settings, notes } = with(&[("CHECK_INTERVAL", text)]).unwrap();
            assert_eq!(fixed(&settings).0.period, expected, "{text}");
            assert!(notes[0].starts_with("CHECK_INTERVAL is "), "{notes:?}");
            assert!(notes[0].contains(note), "{notes:?}");
        }
    }

    #[test]
    fn a_setting_without_effect_is_logged() {
        let FromEnv { settings, notes } = with(&[("IMPERSONATE_NODE", "1")]).unwrap();
        assert_eq!(settings.identity, Identity::ServiceAccount);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("IMPERSONATE_NODE"), "{notes:?}");
    }

    #[test]
    fn metrics_are_served_where_it_is_said() {
        for (text, address) in [
            (":8080", Some("[::]:8080")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("[::1]:1", Some("[::1]:1")),
            ("localhost:1", Some("127.0.0.1:1")),
            ("0", None),
        ] {
            let FromEnv { settings, notes } = with(&[("METRICS_BIND_ADDRESS", text)]).unwrap();
            let found = settings.metrics.map(|metrics| metrics.address.to_string());
            assert_eq!(found.as_deref(), address, "{text}");
            assert_eq!(notes, [""; 0]);
        }
        for text in ["8080", ":http", ":70000", "example.com:1"] {
            let FromEnv { settings, notes } = with(&[("METRICS_BIND_ADDRESS", text)]).unwrap();
            assert_eq!(settings.metrics, None, "{text}");
            assert!(notes[0].starts_with("METRICS_BIND_ADDRESS is "), "{notes:?}");
        }
    }

    #[test]
    fn each_required_variable_is_named_when_missing() {
        for (name, _) in REQUIRED {
            let error = with(&[(name, "")]).unwrap_err();
            assert!(matches!(error, SettingsError::Missing { variable, .. } if variable == name));
        }
    }

    #[test]
    fn an_unusable_value_is_named() {
        for (name, value) in [
            ("CONDITION_TYPE", "Ready"),
            ("CHECK_ENDPOINT", "localhost:9099"),
            ("CHECK_ENDPOINT", "/readiness"),
            ("CHECK_ENDPOINT", "ftp://localhost/x"),
            ("CHECK_ENDPOINT", "http://"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert!(
                matches!(&error, SettingsError::Invalid { variable, .. } if *variable == name),
                "{error}"
            );
        }
    }
}
