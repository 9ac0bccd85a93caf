//! The bench's own watch: the state of every node, and when it changed.
//!
//! It is open while baseline and operator are measured, so both pay for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use node_readiness_api::{CLAIMS_ANNOTATION, ConditionStatus};
use node_readiness_engine::Node;
use node_readiness_engine::signals::{Fact, SignalObject as _, SignalPod};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::environment::Progress;
use crate::fixture::{self, SignalKind, Workload};
use crate::pods;

/// The interval of progress lines during a wait.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The timeout of a wait.
const DEADLINE: Duration = Duration::from_mins(20);

/// The number of nodes in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) nodes: usize,
    /// With every rule's taint.
    pub(crate) tainted: usize,
    /// With no rule's taint.
    pub(crate) clean: usize,
    /// With no taint and no record at all.
    pub(crate) bare: usize,
    /// With every rule's requirement met.
    pub(crate) met: usize,
}

/// A watch of every node.
pub(crate) struct Watching {
    seen: Arc<Mutex<Seen>>,
    counts: watch::Receiver<Counts>,
    task: JoinHandle<()>,
}

/// The records of a phase.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Each change of a node's taints, in the order of the watch.
    pub(crate) changes: Vec<Change>,
    /// The number of finished nodes over time.
    pub(crate) curve: Vec<(Instant, Counts)>,
}

/// A change of a node's taints.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) node: String,
    /// When it was seen.
    pub(crate) seen: Timestamp,
    /// When the causing conditions were seen to change, if there are any.
    pub(crate) since: Option<Timestamp>,
}

struct Seen {
    workload: Workload,
    /// The nodes whose pod is Ready.
    ready: HashSet<String>,
    nodes: HashMap<String, Known>,
    counts: Counts,
    notes: Notes,
}

struct Known {
    node: Arc<Node>,
    likeness: Likeness,
    /// Since when its taints do not match its conditions.
    waits: Option<Timestamp>,
    /// The version of the last change of its taints.
    taint_version: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Likeness {
    met: bool,
    taints: usize,
    bare: bool,
}

impl Watching {
    /// Starts the watch.
    pub(crate) fn start(client: Client, workload: Workload) -> Self {
        let seen = Seen {
            workload,
            ready: HashSet::new(),
            nodes: HashMap::new(),
            counts: Counts::default(),
            notes: Notes::default(),
        };
        let seen = Arc::new(Mutex::new(seen));
        let (reported, counts) = watch::channel(Counts::default());
        let follows = follow(client, Arc::clone(&seen), reported);
        Self { seen, counts, task: tokio::spawn(follows) }
    }

    /// Waits until `reached`, and prints progress. Returns when the last change was seen.
    pub(crate) async fn until(
        &self,
        progress: Progress,
        what: &str,
        reached: impl Fn(&Counts) -> bool,
    ) -> anyhow::Result<Instant> {
        let mut counts = self.counts.clone();
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let wait = timeout(REPORT_INTERVAL, counts.wait_for(|counts| reached(counts))).await;
            if let Ok(reached) = wait {
                reached.context("the watch of nodes ended")?;
                let seen = lock(&self.seen);
                return Ok(seen.notes.curve.last().map_or(begun, |(at, _)| (*at).max(begun)));
            }
            let Counts { nodes, tainted, clean, met, .. } = self.counts();
            progress.say(&format!(
                "  {what}: {nodes} nodes, {tainted} tainted, {clean} not, {met} with conditions met"
            ));
        }
        anyhow::bail!("{what} did not come about within {DEADLINE:?}: {:?}", self.counts())
    }

    /// Returns the number of nodes in each state.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Returns every node, in the order of names.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        let seen = lock(&self.seen);
        let mut nodes: Vec<_> = seen.nodes.values().map(|known| Arc::clone(&known.node)).collect();
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        nodes
    }

    /// Returns the version of the last change of a node's taints.
    pub(crate) fn taint_version(&self, node: &str) -> Option<u64> {
        Some(lock(&self.seen).nodes.get(node)?.taint_version)
    }

    /// Takes the records, and starts new ones.
    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut lock(&self.seen).notes)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(client: Client, seen: Arc<Mutex<Seen>>, reported: watch::Sender<Counts>) {
    let config = || watcher::Config::default().page_size(100);
    let nodes = watcher(Api::<Node>::all(client.clone()), config()).map(Observed::Node);
    let pods = match lock(&seen).workload.signals {
        SignalKind::Conditions => stream::pending().boxed(),
        SignalKind::Pods => {
            let api = Api::<SignalPod>::namespaced(client, pods::NAMESPACE);
            watcher(api, config()).map(Observed::Pod).boxed()
        }
    };
    let mut events = stream::select(nodes.boxed(), pods);
    while let Some(event) = events.next().await {
        let mut seen = lock(&seen);
        match event {
            Observed::Node(Ok(Event::Apply(node) | Event::InitApply(node))) => {
                seen.take_in(Arc::new(node));
            }
            Observed::Node(Ok(Event::Delete(node))) => seen.forget(node.name()),
            Observed::Pod(Ok(Event::Apply(pod) | Event::InitApply(pod))) => seen.take_in_pod(&pod),
            Observed::Node(Ok(_)) | Observed::Pod(Ok(_)) => {}
            Observed::Node(Err(error)) | Observed::Pod(Err(error)) => {
                eprintln!("the bench's watch: {error}; trying again");
            }
        }
        reported.send_if_modified(|counts| std::mem::replace(counts, seen.counts) != seen.counts);
    }
}

/// An event of one of the watches.
enum Observed {
    Node(watcher::Result<Event<Node>>),
    Pod(watcher::Result<Event<SignalPod>>),
}

impl Seen {
    fn take_in_pod(&mut self, pod: &SignalPod) {
        let Some(node) = pod.node() else { return };
        if matches!(pod.fact(), Fact::Pod { ready: true, .. }) {
            self.ready.insert(node.to_owned());
        } else {
            self.ready.remove(node);
        }
        if let Some(known) = self.nodes.get(node) {
            self.take_in(Arc::clone(&known.node));
        }
    }

    fn take_in(&mut self, node: Arc<Node>) {
        let now = Instant::now();
        let likeness = self.likeness(&node);
        let version = node.resource_version().and_then(|v| v.parse().ok()).unwrap_or_default();
        let name = node.name().to_owned();
        let before = self.nodes.remove(&name);
        let was = before.as_ref().map(|known| known.likeness);
        if let Some(was) = was {
            self.counts = self.counted(was, -1);
        }
        self.counts = self.counted(likeness, 1);
        let mut waits = before.as_ref().and_then(|known| known.waits);
        if was.is_none_or(|was| was.met != likeness.met) {
            waits = Some(Timestamp::now());
        }
        let rules = self.workload.rules;
        let follows = likeness.taints == if likeness.met { 0 } else { rules };
        let since = if follows { waits.take() } else { None };
        let retainted = was.is_some_and(|was| was.taints != likeness.taints);
        if retainted {
            let change = Change { node: name.clone(), seen: Timestamp::now(), since };
            self.notes.changes.push(change);
        }
        let taint_version = match &before {
            Some(known) if !retainted => known.taint_version,
            _ => version,
        };
        if was != Some(likeness) {
            self.notes.curve.push((now, self.counts));
        }
        self.nodes.insert(name, Known { node, likeness, waits, taint_version });
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.nodes.remove(name) {
            self.counts = self.counted(known.likeness, -1);
        }
    }

    fn likeness(&self, node: &Node) -> Likeness {
        let rules = self.workload.rules;
        let met = match self.workload.signals {
            SignalKind::Conditions => (0..rules).all(|rule| {
                node.condition(&fixture::condition(rule)) == Some(ConditionStatus::True)
            }),
            SignalKind::Pods => self.ready.contains(node.name()),
        };
        let ours = |key: &str| key.starts_with("readiness.k8s.io/bench-");
        Likeness {
            met: rules > 0 && met,
            bare: node.taints().is_empty() && node.annotation(CLAIMS_ANNOTATION).is_none(),
            taints: node.taints().iter().filter(|taint| ours(&taint.key)).count(),
        }
    }

    fn counted(&self, likeness: Likeness, by: isize) -> Counts {
        let mut counts = self.counts;
        let add = |count: &mut usize, is: bool| {
            if is {
                *count = count.saturating_add_signed(by);
            }
        };
        add(&mut counts.nodes, true);
        add(&mut counts.tainted, likeness.taints == self.workload.rules);
        add(&mut counts.clean, likeness.taints == 0);
        add(&mut counts.bare, likeness.bare);
        add(&mut counts.met, likeness.met);
        counts
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
