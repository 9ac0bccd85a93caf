//! The behaviors of test servers, as plain values. Each test server implements them for its protocol.

use std::collections::BTreeMap;

use clap::ValueEnum;
use tokio::sync::watch;

/// The test servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum TestServer {
    Http,
    Https,
    Tcp,
    Grpc,
    Unix,
    File,
    Exec,
}

/// The behavior of a test server towards a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Behavior {
    /// It is ready.
    Ready,
    /// It is not ready: it returns a bad status, or the file is old, or a file is in place of the socket.
    Failing,
    /// It returns a good status with an unexpected body.
    Starting,
    /// It accepts, and then does nothing.
    Hanging,
    /// It sends garbage.
    Garbage,
    /// It sends an endless answer.
    Huge,
    /// It sends the beginning at once, and then one byte a second.
    Slow,
    /// It does not speak TLS.
    Plain,
    /// It is gone: a closed port, or a removed file.
    Gone,
}

impl TestServer {
    /// Returns the behaviors that it supports.
    pub(crate) fn behaviors(self) -> &'static [Behavior] {
        use Behavior::{Failing, Garbage, Gone, Hanging, Huge, Plain, Ready, Slow, Starting};
        match self {
            Self::Http => &[Ready, Failing, Starting, Hanging, Garbage, Huge, Slow, Gone],
            Self::Https => &[Ready, Failing, Starting, Hanging, Garbage, Huge, Slow, Plain, Gone],
            Self::Tcp => &[Ready, Gone],
            Self::Grpc => &[Ready, Failing, Hanging, Garbage, Gone],
            Self::Unix | Self::File => &[Ready, Failing, Gone],
            Self::Exec => &[Ready, Failing, Hanging, Huge],
        }
    }
}

/// The behavior of every test server.
#[derive(Debug)]
pub(crate) struct Switches(BTreeMap<TestServer, watch::Sender<Behavior>>);

impl Default for Switches {
    /// All are ready.
    fn default() -> Self {
        let all = TestServer::value_variants().iter();
        Self(all.map(|test_server| (*test_server, watch::Sender::new(Behavior::Ready))).collect())
    }
}

impl Switches {
    /// Watches the behavior of a test server.
    pub(crate) fn of(&self, test_server: TestServer) -> watch::Receiver<Behavior> {
        self.0[&test_server].subscribe()
    }

    /// Sets the behavior of a test server. Returns whether it supports it.
    pub(crate) fn set(&self, test_server: TestServer, behavior: Behavior) -> bool {
        let can = test_server.behaviors().contains(&behavior);
        if can {
            self.0[&test_server].send_replace(behavior);
        }
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_server_is_ready_until_another_behavior_is_set() {
        let switches = Switches::default();
        let (grpc, http) = (switches.of(TestServer::Grpc), switches.of(TestServer::Http));
        assert_eq!(*grpc.borrow(), Behavior::Ready);
        assert!(switches.set(TestServer::Grpc, Behavior::Failing));
        assert_eq!((*grpc.borrow(), *http.borrow()), (Behavior::Failing, Behavior::Ready));
    }

    #[test]
    fn an_unsupported_behavior_is_refused() {
        let switches = Switches::default();
        assert!(!switches.set(TestServer::File, Behavior::Slow));
        assert_eq!(*switches.of(TestServer::File).borrow(), Behavior::Ready);
    }
}
