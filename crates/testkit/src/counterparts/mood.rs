//! How counterparts can behave, and where each of them finds out how it should. Plain
//! values; what a mood looks like on the wire is the counterparts' business.

use std::collections::BTreeMap;

use clap::ValueEnum;
use tokio::sync::watch;

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Counterpart {
    Http,
    Https,
    Tcp,
    Grpc,
    Unix,
    File,
    Exec,
}

/// How a counterpart treats whoever probes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mood {
    /// As something that is ready.
    Ready,
    /// As something that says that it is not: a status, an old file, a file in place of the
    /// socket.
    Failing,
    /// A good status with a body that says something else.
    Starting,
    /// It accepts, and then does nothing.
    Hanging,
    /// It sends what is not of its protocol.
    Garbage,
    /// It sends without end.
    Huge,
    /// It sends the beginning at once and the rest a byte a second.
    Slow,
    /// It speaks no TLS.
    Plain,
    /// As something that is not there: a closed port, a removed file.
    Gone,
}

impl Counterpart {
    /// What it can do.
    pub(crate) fn moods(self) -> &'static [Mood] {
        use Mood::{Failing, Garbage, Gone, Hanging, Huge, Plain, Ready, Slow, Starting};
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

/// The mood of every counterpart.
#[derive(Debug)]
pub(crate) struct Switches(BTreeMap<Counterpart, watch::Sender<Mood>>);

impl Default for Switches {
    /// All are ready.
    fn default() -> Self {
        let all = Counterpart::value_variants().iter();
        Self(all.map(|counterpart| (*counterpart, watch::Sender::new(Mood::Ready))).collect())
    }
}

impl Switches {
    /// The mood of one of them, now and from now on.
    pub(crate) fn of(&self, counterpart: Counterpart) -> watch::Receiver<Mood> {
        self.0[&counterpart].subscribe()
    }

    /// Puts one into a mood. Returns whether it can do that.
    pub(crate) fn set(&self, counterpart: Counterpart, mood: Mood) -> bool {
        let can = counterpart.moods().contains(&mood);
        if can {
            self.0[&counterpart].send_replace(mood);
        }
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counterpart_is_ready_and_then_as_it_is_told() {
        let switches = Switches::default();
        let (grpc, http) = (switches.of(Counterpart::Grpc), switches.of(Counterpart::Http));
        assert_eq!(*grpc.borrow(), Mood::Ready);
        assert!(switches.set(Counterpart::Grpc, Mood::Failing));
        assert_eq!((*grpc.borrow(), *http.borrow()), (Mood::Failing, Mood::Ready));
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let switches = Switches::default();
        assert!(!switches.set(Counterpart::File, Mood::Slow));
        assert_eq!(*switches.of(Counterpart::File).borrow(), Mood::Ready);
    }
}
