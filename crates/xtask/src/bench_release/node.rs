//! A node of the benchmark, with a watch of its taints and with its agent.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use node_readiness_testkit::Layout;

use crate::kubectl::Kubectl;

/// The agents' image, as loaded by `make deploy`.
const IMAGE: &str = concat!("node-readiness/testkit:v", env!("CARGO_PKG_VERSION"));

const TAINT: &str = "readiness.k8s.io/NetworkReady";

/// The timeout of a wait. A node is held again about half a minute after its agent stops.
const WITHIN: Duration = Duration::from_mins(2);

/// The keys of a node's taints, one line for each change of the node.
const TAINTS: &str = "jsonpath={.spec.taints[*].key}{\"\\n\"}";

/// A node whose taints are watched.
pub(super) struct BenchNode {
    name: String,
    kubectl: Kubectl,
    agent: SocketAddr,
    watch: Child,
    /// The time of each change of the node, and whether it has the taint then.
    changes: Receiver<(Instant, bool)>,
}

impl Drop for BenchNode {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

impl BenchNode {
    pub(super) fn open(name: &str, layout: &Layout) -> anyhow::Result<Self> {
        let kubectl = Kubectl::new(layout);
        let address = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        let address = kubectl.run(&["get", "node", name, "-o", address], "")?;
        let mut watch = kubectl.command(&["get", "node", name, "--watch", "-o", TAINTS]);
        let mut watch = watch.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(watch.stdout.take().context("kubectl has no output")?).lines();
        let (sender, changes) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let held = line.split_whitespace().any(|key| key == TAINT);
                if sender.send((Instant::now(), held)).is_err() {
                    return;
                }
            }
        });
        let agent = SocketAddr::new(address.trim().parse()?, 9099);
        Ok(Self { name: name.to_owned(), kubectl, agent, watch, changes })
    }

    /// Waits until the node is held, or released, and returns the time of that change.
    pub(super) fn await_held(&mut self, held: bool) -> anyhow::Result<Instant> {
        let end = Instant::now() + WITHIN;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (at, is_held) = self.changes.recv_timeout(left).with_context(|| {
                format!("{} did not become held={held} within {WITHIN:?}", self.name)
            })?;
            if is_held == held {
                return Ok(at);
            }
        }
    }

    /// Starts an agent that becomes ready after some time. Returns the time from its first good answer until the taint
    /// is removed. On return the agent is deleted and the node is held again.
    pub(super) fn round(&mut self, ready_after: Duration) -> anyhow::Result<Duration> {
        let manifest = include_str!("agent.yaml")
            .replace("{node}", &self.name)
            .replace("{image}", IMAGE)
            .replace("{ready_after}", &ready_after.as_millis().to_string());
        self.kubectl.run(&["create", "-f", "-"], &manifest)?;
        let answered = self.await_answer()?;
        let released = self.await_held(false)?;
        let pod = format!("agent-{}", self.name);
        self.kubectl.run(&["-n", "kube-system", "delete", "pod", &pod, "--now"], "")?;
        self.await_held(true)?;
        Ok(released.saturating_duration_since(answered))
    }

    /// Polls the agent until it answers 200, and returns the time of that answer.
    fn await_answer(&self) -> anyhow::Result<Instant> {
        let end = Instant::now() + WITHIN;
        while Instant::now() < end {
            if self.is_ready() {
                return Ok(Instant::now());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the agent of {} did not answer within {WITHIN:?}", self.name)
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.agent, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(
                b"GET /readiness HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n",
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}
