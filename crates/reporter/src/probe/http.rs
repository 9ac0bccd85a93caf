//! The `httpGet` probe.
//!
//! For a Pod's probe the rules are kubelet's: a new connection each time, no proxy, redirects
//! followed on the same host only, a bounded part of the body read and forgotten. HTTP/1.1 is
//! spoken, also over TLS, where kubelet would negotiate HTTP/2.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, header};
use reqwest::{Client, Response, Url, redirect};

use super::{
    Dialect, Outcome, TrustError,
    fault::{self, Fault},
    trust,
};

const USER_AGENT: &str = concat!("node-readiness-reporter/", env!("CARGO_PKG_VERSION"));

/// How much of a body is read, as kubelet does. It is enough for a server to see its answer taken.
const BODY_LIMIT: usize = 10 * 1024;

/// Requests that one probe may take, as kubelet counts: the first one and nine redirects.
const REQUEST_LIMIT: usize = 10;

/// An HTTP GET and how to judge its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// Where to.
    pub url: Url,
    /// Headers to send.
    pub headers: HeaderMap,
    /// How to judge.
    pub dialect: Dialect,
}

/// A prepared HTTP probe.
#[derive(Debug)]
pub struct HttpProber {
    check: HttpCheck,
    client: Client,
    /// What is probed, for people.
    subject: String,
}

impl HttpProber {
    pub(super) fn new(check: HttpCheck) -> Result<Self, TrustError> {
        let client = client(&check.dialect)?;
        let subject = format!("httpGet {}", without_secrets(&check.url));
        Ok(Self { check, client, subject })
    }

    pub(super) async fn probe(&self) -> Outcome {
        let result = self.get().await.map_err(|error| Fault::from(&error));
        self.check.dialect.judge(&self.subject, result)
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        self.check.dialect.judge(&self.subject, Err(Fault::TimedOut(timeout)))
    }

    /// The status of the answer. For a Pod's probe the beginning of its body must arrive, too.
    async fn get(&self) -> reqwest::Result<u16> {
        let HttpCheck { url, headers, dialect } = &self.check;
        let response = self.client.get(url.clone()).headers(headers.clone()).send().await?;
        let status = response.status().as_u16();
        if *dialect == Dialect::PodProbe {
            read_beginning(response).await?;
        }
        Ok(status)
    }
}

/// Reads as much of the body as is to be read, and drops it.
async fn read_beginning(mut response: Response) -> reqwest::Result<()> {
    let ends_with_connection = response.content_length().is_none()
        && !response.headers().contains_key(header::TRANSFER_ENCODING);
    let mut read = 0;
    while read < BODY_LIMIT {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => break,
            // Many small servers close without TLS's farewell. kubelet takes that for the end, where
            // the end is not announced otherwise, and a probe that works in a Pod works here.
            Err(error) if ends_with_connection && fault::is_unexpected_end(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn client(dialect: &Dialect) -> Result<Client, TrustError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .pool_max_idle_per_host(0)
        .no_proxy()
        .referer(false)
        .resolve_to_addrs("localhost", &loopback())
        .redirect(redirects(dialect));
    let builder = match dialect {
        Dialect::PodProbe => trust::accept_all(builder),
        Dialect::Endpoint(roots) => trust::verify(builder, roots)?,
    };
    builder.build().map_err(|error| TrustError::Client(error.to_string()))
}

fn redirects(dialect: &Dialect) -> redirect::Policy {
    let stay_on_host = *dialect == Dialect::PodProbe;
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

/// What `localhost` is: a loopback address by definition (RFC 6761), with no resolver asked that
/// could be slow or say otherwise. On a node without IPv6 only the IPv4 one, because an attempt at
/// the other would hide why the first one failed.
fn loopback() -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
    }
    addresses
}

/// The URL as it may be shown to everyone who can read a node: credentials and queries can be
/// secrets.
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
