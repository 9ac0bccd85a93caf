//! The `httpGet` probe.
//!
//! For a Pod's probe the rules are kubelet's: a new connection each time, no proxy, redirects only on the same
//! host, and a bounded part of the body, which is discarded. It speaks HTTP/1.1, also over TLS, where kubelet
//! would negotiate HTTP/2.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use node_readiness_api::BODY_PATTERN_MEMORY;
use regex_lite::{Regex, RegexBuilder};
use reqwest::{Client, Response, Url, redirect};
use rustls::ClientConfig;

use super::{
    Outcome, ReasonStyle, TrustError,
    error::{self, ProbeError},
    resolve::Resolver,
    trust::{AskedForCertificate, Tls},
};

const USER_AGENT: &str = concat!("node-readiness-reporter/", env!("CARGO_PKG_VERSION"));

/// The maximum part of the body to read, as in kubelet.
const BODY_LIMIT: usize = 10 * 1024;

/// The maximum number of headers. The client's default of 100 is fewer than agents send that kubelet accepts.
const HEADERS_LIMIT: usize = 1000;

/// The maximum number of requests of one probe, as in kubelet: the first one and nine redirects.
const REQUEST_LIMIT: usize = 10;

/// An HTTP GET and how to interpret its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The URL.
    pub url: Url,
    /// Headers to send.
    pub headers: HeaderMap,
    /// What the body must match, in addition to the status.
    pub body: Option<BodyPattern>,
    /// How to interpret the answer.
    pub reason_style: ReasonStyle,
}

/// A regular expression for the start of a body.
#[derive(Clone, Debug)]
pub struct BodyPattern(Regex);

impl BodyPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// When it is not a regular expression or needs too much memory; the text has the reason.
    pub fn new(pattern: &str) -> Result<Self, String> {
        RegexBuilder::new(pattern)
            .size_limit(BODY_PATTERN_MEMORY)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    fn matches(&self, body: &[u8]) -> bool {
        self.0.is_match(&String::from_utf8_lossy(body))
    }
}

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A prepared HTTP probe.
#[derive(Debug)]
pub struct HttpProber {
    check: HttpCheck,
    client: Client,
    asked: Arc<AskedForCertificate>,
    /// The subject of the condition's message.
    subject: String,
}

impl HttpProber {
    pub(super) fn new(check: HttpCheck) -> Result<Self, TrustError> {
        let Tls { config, asked } = match &check.reason_style {
            ReasonStyle::PodProbe => Tls::accept_all()?,
            ReasonStyle::Endpoint(roots) => Tls::verify(roots)?,
        };
        let client = client(&check.reason_style, config)?;
        let subject = format!("httpGet {}", without_secrets(&check.url));
        Ok(Self { check, client, asked, subject })
    }

    pub(super) async fn probe(&self) -> Outcome {
        self.asked.take();
        let found = self.get().await.map_err(|error| match error {
            // The server may report that with any alert, or just close the connection.
            ProbeError::Tls | ProbeError::ConnectionClosed if self.asked.take() => {
                ProbeError::ClientCertificate
            }
            error => error,
        });
        self.check.reason_style.outcome(&self.subject, found)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        let error = ProbeError::TimedOut("no complete answer", timeout);
        self.check.reason_style.outcome(&self.subject, Err(error))
    }

    /// Returns the status of the answer. For a Pod's probe the start of its body must arrive too.
    async fn get(&self) -> Result<u16, ProbeError> {
        let HttpCheck { url, headers, body: pattern, reason_style } = &self.check;
        let request = self.client.get(url.clone()).headers(headers.clone());
        let response = request.send().await.map_err(|error| ProbeError::from(&error))?;
        let status = response.status().as_u16();
        if *reason_style == ReasonStyle::PodProbe {
            let beginning =
                read_beginning(response).await.map_err(|error| ProbeError::from(&error))?;
            let mismatch = pattern.as_ref().is_some_and(|pattern| !pattern.matches(&beginning));
            if (200..400).contains(&status) && mismatch {
                return Err(ProbeError::Body);
            }
        }
        Ok(status)
    }
}

/// Reads the required part of the body.
async fn read_beginning(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let ends_with_connection = response.content_length().is_none()
        && !response.headers().contains_key(header::TRANSFER_ENCODING);
    let mut beginning = Vec::new();
    while beginning.len() < BODY_LIMIT {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = BODY_LIMIT - beginning.len();
                beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok(None) => break,
            // Many small servers close a connection without TLS's close_notify. kubelet treats that as the end,
            // unless the end is announced otherwise.
            Err(error) if ends_with_connection && error::is_unexpected_end(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(beginning)
}

fn client(reason_style: &ReasonStyle, config: ClientConfig) -> Result<Client, TrustError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .pool_max_idle_per_host(0)
        .no_proxy()
        .referer(false)
        .dns_resolver(Arc::new(Resolver::new()))
        .redirect(redirects(reason_style))
        .http1_max_headers(HEADERS_LIMIT)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .tls_backend_preconfigured(config);
    builder.build().map_err(|error| TrustError::Client(error.to_string()))
}

fn redirects(reason_style: &ReasonStyle) -> redirect::Policy {
    let stay_on_host = *reason_style == ReasonStyle::PodProbe;
    redirect::Policy::custom(move |attempt| {
        let first = attempt.previous().first().and_then(Url::host_str);
        if stay_on_host && attempt.url().host_str() != first {
            attempt.stop()
        } else if attempt.previous().len() >= REQUEST_LIMIT {
            attempt.error("too many redirects")
        } else {
            attempt.follow()
        }
    })
}

/// Returns the URL without credentials and query, which can be secrets.
fn without_secrets(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail only for URLs that cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn credentials_and_queries_are_not_shown() {
        let url = Url::parse("https://me:secret@example.com:8443/path?token=secret#top").unwrap();
        assert_eq!(without_secrets(&url).as_str(), "https://example.com:8443/path");
    }
}
