//! The `tcpSocket` probe: opens a connection and closes it.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{
    Outcome,
    fault::Fault,
    resolve::{Resolver, authority},
};

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpCheck {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A prepared TCP probe.
#[derive(Debug)]
pub struct TcpProber {
    check: TcpCheck,
    resolver: Resolver,
    subject: String,
}

impl TcpProber {
    pub(super) fn new(check: TcpCheck) -> Self {
        let subject = format!("tcpSocket {}", authority(&check.host, check.port));
        Self { check, resolver: Resolver::new(), subject }
    }

    pub(super) async fn probe(&self) -> Outcome {
        let TcpCheck { host, port } = &self.check;
        let connected = connect(&self.resolver, host, *port).await;
        Outcome::of_pod_probe(&self.subject, connected.map(|_| "connected".into()))
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(&self.subject, Err(Fault::TimedOut("no connection", timeout)))
    }
}

/// A connection to the first of the host's addresses that takes one.
pub(super) async fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
) -> Result<TcpStream, Fault> {
    let addresses = resolver.resolve(host, port).await?;
    TcpStream::connect(&addresses[..]).await.map_err(|error| Fault::from(&error))
}
