//! Resolves a host to its addresses.
//!
//! `localhost` is a loopback address by definition (RFC 6761), so it needs no resolver. The system's resolver
//! resolves other names, one call for each probe at a time, so a hanging resolver blocks at most one thread for
//! each probe.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{blocking::BlockingCalls, error::ProbeError};

/// The default host of a probe.
pub(crate) const LOCALHOST: &str = "localhost";

/// Resolves a probe's host.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    calls: BlockingCalls,
    loopback: Vec<IpAddr>,
}

impl Resolver {
    pub(super) fn new() -> Self {
        let mut loopback = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
        // A node without IPv6 uses only the IPv4 address, because a failure of the other one would hide why the
        // first failed.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            loopback.push(Ipv6Addr::LOCALHOST.into());
        }
        Self { calls: BlockingCalls::new(), loopback }
    }

    /// Returns the addresses of a host with this port; at least one.
    pub(super) async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ProbeError> {
        if host.eq_ignore_ascii_case(LOCALHOST) {
            return Ok(self.loopback.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
        }
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        let found: io::Result<Vec<_>> =
            self.calls.run(move |_| Ok((host.as_str(), port).to_socket_addrs()?.collect())).await;
        found.ok().filter(|found| !found.is_empty()).ok_or(ProbeError::NameNotResolved)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            // reqwest replaces port 0.
            let found = Resolver::resolve(&resolver, name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Returns host and port as in a URL.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[tokio::test]
    async fn localhost_and_addresses_ask_no_resolver() {
        let resolver = Resolver::new();
        let local = resolver.resolve("LocalHost", 7).await.unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        assert!(local[0].is_ipv4());
        for (host, address) in [("192.0.2.1", "192.0.2.1:7"), ("2001:db8::1", "[2001:db8::1]:7")] {
            assert_eq!(resolver.resolve(host, 7).await.unwrap(), [address.parse().unwrap()]);
            assert_eq!(authority(host, 7), address);
        }
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_not_resolved() {
        let found = Resolver::new().resolve("", 7).await;
        assert_eq!(found, Err(ProbeError::NameNotResolved));
    }
}
