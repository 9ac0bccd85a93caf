//! Watches the cluster: `kubectl get --watch` of nodes and pods, read line by line while the demo waits.

use std::{
    io::BufReader,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use node_readiness_testkit::Layout;
use serde::Deserialize;

use super::{
    screen::{Screen, on_cluster},
    view::View,
};

/// The namespaces of pods in the demo: its own, its agents', the reporters'.
const NAMESPACES: [&str; 3] = ["default", "kube-system", "nrr-reporters"];

/// The commands that show logs when the cluster does not reach an expected state.
const LOGS: &str = "The logs of the operator, the reporters and the cluster show more:
  kubectl -n nrr-system logs deployment/nrr-controller-manager
  kubectl -n nrr-reporters logs --prefix --selector app.kubernetes.io/managed-by=node-readiness-operator
  ls .cluster/log";

/// A change of an object, as kubectl prints it with `--output-watch-events`.
#[derive(Deserialize)]
struct WatchEvent<K> {
    #[serde(rename = "type")]
    type_: String,
    object: K,
}

/// A message of a reading thread.
enum Event {
    Node(Box<WatchEvent<Node>>),
    Pod(Box<WatchEvent<Pod>>),
    /// kubectl has ended unexpectedly.
    Ended(&'static str),
}

/// The watches of a cluster. They end on drop.
pub(super) struct Live<'a> {
    screen: &'a Screen,
    view: View,
    events: Receiver<(Instant, Event)>,
    watches: Vec<Child>,
    since: Instant,
}

impl<'a> Live<'a> {
    /// Starts to watch.
    pub(super) fn start(screen: &'a Screen, layout: &Layout) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut live = Self {
            screen,
            view: View::default(),
            events,
            watches: Vec::new(),
            since: Instant::now(),
        };
        let nodes = watch(layout, &["nodes"], "nodes", sender.clone(), Event::Node)?;
        live.watches.push(nodes);
        let pods = watch(layout, &["pods", "--all-namespaces"], "pods", sender, Event::Pod)?;
        live.watches.push(pods);
        Ok(live)
    }

    /// Resets the clock of printed lines, and applies earlier changes without printing them.
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        while let Ok((_, event)) = self.events.try_recv() {
            self.take(event)?;
        }
        self.since = Instant::now();
        Ok(())
    }

    /// Returns the last state.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Prints every change until the cluster has the expected state.
    pub(super) fn until(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&View) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while !is_so(&self.view) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok((at, event)) => {
                    let elapsed = at.saturating_duration_since(self.since).as_secs_f32();
                    let elapsed = format!("+{elapsed:.1} s");
                    for change in self.take(event)? {
                        self.screen.output(&format!("{elapsed:>7}  {change}"));
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "this did not happen within {} s: {what}. The last state:\n{}\n{LOGS}",
                    within.as_secs(),
                    self.view.describe()
                ),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("both watches of the cluster have ended")
                }
            }
        }
        Ok(())
    }

    /// Applies an event, and returns the changes in words.
    fn take(&mut self, event: Event) -> anyhow::Result<Vec<String>> {
        Ok(match event {
            Event::Node(event) => self.view.see_node(&event.object),
            Event::Pod(event) if !matters(&event.object) => Vec::new(),
            Event::Pod(event) if event.type_ == "DELETED" => {
                self.view.lose_pod(&event.object).into_iter().collect()
            }
            Event::Pod(event) => self.view.see_pod(&event.object).into_iter().collect(),
            Event::Ended(what) => {
                bail!("kubectl's watch of {what} has ended: does the API server run?")
            }
        })
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        for watch in &mut self.watches {
            // It may have ended by itself.
            let _ = watch.kill();
            let _ = watch.wait();
        }
    }
}

fn matters(pod: &Pod) -> bool {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    NAMESPACES.contains(&namespace)
}

fn watch<K: for<'de> Deserialize<'de> + Send + 'static>(
    layout: &Layout,
    resource: &[&str],
    what: &'static str,
    sender: Sender<(Instant, Event)>,
    event: fn(Box<WatchEvent<K>>) -> Event,
) -> anyhow::Result<Child> {
    let watch = ["--watch", "--output-watch-events", "--output=json"];
    let mut command = on_cluster(layout, &[&["kubectl", "get"], resource, &watch].concat());
    let mut running = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start kubectl")?;
    let output = running.stdout.take().context("kubectl has no output")?;
    thread::spawn(move || {
        let events = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter();
        // A dropped receiver and an invalid event both end the watch.
        let _ = events
            .map_while(Result::ok)
            .try_for_each(|read| sender.send((Instant::now(), event(Box::new(read)))));
        let _ = sender.send((Instant::now(), Event::Ended(what)));
    });
    Ok(running)
}
