//! The two ways to judge an HTTP answer and to put it into words.
//!
//! Which one applies depends on how the reporter is configured. The words are pure functions of
//! what happened, so that the same thing always reads the same.

use super::{Outcome, Roots, fault::Fault, outcome::message};

/// How an HTTP probe behaves and speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As a Pod's `httpGet` probe: 200 to 399 is healthy, a redirect to another host is a success
    /// that is not followed, and certificates are not verified.
    PodProbe,
    /// As the Go project's reporter: 2xx is healthy, redirects are followed wherever they lead, and
    /// certificates are verified.
    Endpoint(Roots),
}

impl Dialect {
    /// Judges what came of a GET of `subject`: a status, or a fault on the way to one.
    pub(super) fn judge(&self, subject: &str, result: Result<u16, Fault>) -> Outcome {
        match self {
            Self::PodProbe => {
                let found = result.and_then(|status| match status {
                    200..400 => Ok(format!("status {status}")),
                    _ => Err(Fault::Status(status)),
                });
                Outcome::of_pod_probe(subject, found)
            }
            Self::Endpoint(_) => {
                let healthy = result.is_ok_and(|status| (200..300).contains(&status));
                let happened = match &result {
                    Ok(status) => Fault::Status(*status).to_string(),
                    Err(fault) => fault.to_string(),
                };
                let reason = endpoint_reason(healthy, &result);
                Outcome { healthy, reason, message: message(subject, &happened) }
            }
        }
    }
}

fn endpoint_reason(healthy: bool, result: &Result<u16, Fault>) -> &'static str {
    match result {
        Ok(_) if healthy => "EndpointOK",
        Ok(_) => "EndpointNotReady",
        Err(Fault::Request) => "RequestCreationError",
        Err(Fault::TooManyRedirects | Fault::Other) => "HealthCheckFailed",
        Err(_) => "EndpointConnectionError",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POD: Dialect = Dialect::PodProbe;
    const ENDPOINT: Dialect = Dialect::Endpoint(Roots::Bundled);

    fn judged(dialect: &Dialect, result: Result<u16, Fault>) -> (bool, &'static str) {
        let outcome = dialect.judge("GET /", result);
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
            assert_eq!(judged(&POD, Ok(status)), (healthy, reason), "{status}");
        }
        let timeout = Fault::TimedOut("no complete answer", Duration::from_secs(1));
        assert_eq!(judged(&POD, Err(timeout)), (false, "ProbeTimedOut"));
        assert_eq!(judged(&POD, Err(Fault::ConnectionRefused)), (false, "ProbeFailed"));
    }

    #[test]
    fn an_endpoint_has_the_go_projects_reasons() {
        for (result, expected) in [
            (Ok(200), (true, "EndpointOK")),
            (Ok(299), (true, "EndpointOK")),
            (Ok(302), (false, "EndpointNotReady")),
            (Ok(500), (false, "EndpointNotReady")),
            (Err(Fault::ConnectionRefused), (false, "EndpointConnectionError")),
            (Err(Fault::TimedOut("", Duration::from_secs(10))), (false, "EndpointConnectionError")),
            (Err(Fault::Tls), (false, "EndpointConnectionError")),
            (Err(Fault::Request), (false, "RequestCreationError")),
            (Err(Fault::TooManyRedirects), (false, "HealthCheckFailed")),
            (Err(Fault::Other), (false, "HealthCheckFailed")),
        ] {
            assert_eq!(judged(&ENDPOINT, result), expected, "{result:?}");
        }
    }

    #[test]
    fn a_message_tells_what_happened_to_what() {
        let outcome = POD.judge("httpGet http://localhost:9099/", Ok(503));
        assert_eq!(outcome.message, "httpGet http://localhost:9099/: status 503");
    }
}
