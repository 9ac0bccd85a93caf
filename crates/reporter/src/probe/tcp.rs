//! The `tcpSocket` probe: opens a connection and closes it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{net::TcpStream, time};

use super::{
    Outcome,
    error::ProbeError,
    resolve::{Resolver, authority},
};

/// The head start of an address before the next one is tried too: RFC 8305, section 5, with the value of
/// kubelet's dialer. The dialer races one address of each family, and this races all.
const HEAD_START: Duration = Duration::from_millis(300);

/// The target.
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
        Outcome::of_pod_probe(&self.subject, Err(ProbeError::TimedOut("no connection", timeout)))
    }
}

/// Connects to the first of the host's addresses that accepts a connection.
pub(super) async fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
) -> Result<TcpStream, ProbeError> {
    let addresses = resolver.resolve(host, port).await?;
    connect_to_any(addresses).await
}

/// Tries the next address when an earlier one has failed, or after its head start. If none accepts a
/// connection, the first one's error is reported.
async fn connect_to_any(addresses: Vec<SocketAddr>) -> Result<TcpStream, ProbeError> {
    let mut untried = addresses.into_iter().enumerate();
    let mut attempts = FuturesUnordered::new();
    let mut failures = BTreeMap::new();
    loop {
        if let Some((place, address)) = untried.next() {
            attempts.push(async move { (place, dial(address).await) });
        }
        let patience = if untried.len() == 0 { Duration::MAX } else { HEAD_START };
        match time::timeout(patience, attempts.next()).await {
            Ok(Some((_, Ok(stream)))) => return Ok(stream),
            Ok(Some((place, Err(error)))) => {
                failures.insert(place, error);
            }
            Ok(None) => return Err(failures.into_values().next().unwrap_or(ProbeError::Other)),
            Err(_) => {}
        }
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    let stream = TcpStream::connect(address).await.map_err(|error| ProbeError::from(&error))?;
    if is_its_own_peer(&stream) {
        // Otherwise the port would be in use for a minute and block the agent that listens there.
        let _ = stream.set_zero_linger();
        return Err(ProbeError::ConnectionRefused);
    }
    Ok(stream)
}

/// Returns whether the connection was accepted by this end itself. The kernel chooses the local port of a
/// connection to the same host, and sometimes it is the dialed port. TCP's simultaneous open (RFC 9293, section
/// 3.5) then succeeds although nobody listens.
fn is_its_own_peer(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(here), Ok(there)) if here == there)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that does not answer, because its listener's backlog is full. It lasts as long as the second
    /// value.
    async fn silent() -> (impl Sized, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) =
            time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 10, "the backlog is never full");
        }
        ((listener, waiting), address)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_not_waited_for() {
        let (_silent, silent) = silent().await;
        let (_listener, good) = listener().await;
        let stream = time::timeout(PATIENCE, connect_to_any(vec![silent, silent, good])).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn the_first_address_that_takes_a_connection_is_used_and_those_that_refuse_are_passed() {
        let (listener, refusing) = listener().await;
        drop(listener);
        let (_first, first) = self::listener().await;
        let (_second, second) = self::listener().await;
        let stream = connect_to_any(vec![refusing, first, second]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), first);
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_not_a_success() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let alone = socket.connect(address).await.unwrap();
        assert!(is_its_own_peer(&alone));

        let (_listener, address) = listener().await;
        assert!(!is_its_own_peer(&dial(address).await.unwrap()));
    }

    #[tokio::test]
    async fn if_none_takes_a_connection_the_first_says_why() {
        let (listener, refusing) = listener().await;
        drop(listener);
        // The kernel routes no connection there.
        let unreachable = SocketAddr::from(([255; 4], 1));
        let found = connect_to_any(vec![refusing, unreachable]).await.map(drop);
        assert_eq!(found, Err(ProbeError::ConnectionRefused));
        let found = connect_to_any(vec![unreachable, refusing]).await.map(drop);
        assert_eq!(found, Err(ProbeError::Unreachable));
    }
}
