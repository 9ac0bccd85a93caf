//! The two styles of reasons for an HTTP answer: a Pod's probe, and the Go project's reporter. The settings
//! decide.

use super::{Outcome, Roots, error::ProbeError, outcome::message};

/// How an HTTP probe interprets and reports answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasonStyle {
    /// Like a Pod's `httpGet` probe: 200 to 399 is healthy, a redirect to another host is a success and is not
    /// followed, and certificates are not verified.
    PodProbe,
    /// Like the Go project's reporter: 2xx is healthy, redirects are followed to any host, and certificates are
    /// verified.
    Endpoint(Roots),
}

impl ReasonStyle {
    /// Returns the outcome of a GET of `subject`: of a status, or of an error.
    pub(super) fn outcome(&self, subject: &str, result: Result<u16, ProbeError>) -> Outcome {
        match self {
            Self::PodProbe => {
                let found = result.and_then(|status| match status {
                    200..400 => Ok(format!("status {status}")),
                    _ => Err(ProbeError::Status(status)),
                });
                Outcome::of_pod_probe(subject, found)
            }
            Self::Endpoint(_) => {
                let healthy = result.is_ok_and(|status| (200..300).contains(&status));
                let happened = match &result {
                    Ok(status) => ProbeError::Status(*status).to_string(),
                    Err(error) => error.to_string(),
                };
                let reason = endpoint_reason(healthy, &result);
                Outcome { healthy, reason, message: message(subject, &happened) }
            }
        }
    }
}

fn endpoint_reason(healthy: bool, result: &Result<u16, ProbeError>) -> &'static str {
    match result {
        Ok(_) if healthy => "EndpointOK",
        Ok(_) => "EndpointNotReady",
        Err(ProbeError::Request) => "RequestCreationError",
        Err(ProbeError::TooManyRedirects | ProbeError::Other) => "HealthCheckFailed",
        Err(_) => "EndpointConnectionError",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POD: ReasonStyle = ReasonStyle::PodProbe;
    const ENDPOINT: ReasonStyle = ReasonStyle::Endpoint(Roots::Bundled);

    fn outcome(
        reason_style: &ReasonStyle,
        result: Result<u16, ProbeError>,
    ) -> (bool, &'static str) {
        let outcome = reason_style.outcome("GET /", result);
        (outcome.healthy, outcome.reason)
    }

    #[test]
    fn a_pod_probe_is_healthy_from_200_to_399() {
        for (status, healthy) in [
            (199, false),
            (200, true),
            (204, true),
            (302, true),
            (399, true),
            (400, false),
            (503, false),
        ] {
            let reason = if healthy { "ProbeSucceeded" } else { "ProbeFailed" };
            assert_eq!(outcome(&POD, Ok(status)), (healthy, reason), "{status}");
        }
        let timeout = ProbeError::TimedOut("no complete answer", Duration::from_secs(1));
        assert_eq!(outcome(&POD, Err(timeout)), (false, "ProbeTimedOut"));
        assert_eq!(outcome(&POD, Err(ProbeError::ConnectionRefused)), (false, "ProbeFailed"));
    }

    #[test]
    fn an_endpoint_has_the_go_projects_reasons() {
        for (result, expected) in [
            (Ok(200), (true, "EndpointOK")),
            (Ok(299), (true, "EndpointOK")),
            (Ok(302), (false, "EndpointNotReady")),
            (Ok(500), (false, "EndpointNotReady")),
            (Err(ProbeError::ConnectionRefused), (false, "EndpointConnectionError")),
            (
                Err(ProbeError::TimedOut("", Duration::from_secs(10))),
                (false, "EndpointConnectionError"),
            ),
            (Err(ProbeError::Tls), (false, "EndpointConnectionError")),
            (Err(ProbeError::Request), (false, "RequestCreationError")),
            (Err(ProbeError::TooManyRedirects), (false, "HealthCheckFailed")),
            (Err(ProbeError::Other), (false, "HealthCheckFailed")),
        ] {
            assert_eq!(outcome(&ENDPOINT, result), expected, "{result:?}");
        }
    }

    #[test]
    fn a_message_names_the_subject_and_the_problem() {
        let outcome = POD.outcome("httpGet http://localhost:9099/", Ok(503));
        assert_eq!(outcome.message, "httpGet http://localhost:9099/: status 503");
    }
}
