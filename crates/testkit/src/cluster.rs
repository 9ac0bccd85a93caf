//! A whole cluster.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    binaries::Binaries,
    cgroup::Hierarchies,
    cleanup, control_plane,
    error::{Error, Result},
    files, host,
    kubectl::Kubectl,
    layout::Layout,
    network,
    node::{self, Machine, Namespaces, Node},
    pki::Pki,
    service::{self, Service},
    spec::{ClusterSpec, Nodes, RealNodes},
    state::{StartedProcess, State},
    sysctl,
};

/// How long nodes may take to be Ready; normally a few seconds.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// A running cluster. It ends on drop, unless [`detach`](Cluster::detach) was called.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    services: Vec<Service>,
    machines: Vec<Machine>,
    ends_on_drop: bool,
}

impl Cluster {
    /// Starts a cluster and returns when it is usable: the API server is ready, the
    /// default ServiceAccount exists, and all nodes are Ready and carry no taints
    /// but their startup taints. One that an earlier run left in the same directory
    /// is ended first. `progress` gets a line for everything that takes a second or more.
    ///
    /// # Errors
    /// When something that is needed is missing or does not start; the message says
    /// what to do or shows the log. What had been started is ended again, the logs stay.
    pub fn up(spec: &ClusterSpec, progress: &dyn Fn(&str)) -> Result<Self> {
        if let Nodes::Real(_) = spec.nodes {
            host::check()?;
        }
        let binaries = Binaries::ensure(progress)?;
        let layout = open(&spec.dir)?;
        let _lock = files::lock(layout.dir())?;
        cleanup::clear(&layout)?;
        cleanup::remove_logs(&layout)?;
        files::create_dir(&layout.log())?;
        binaries.link_into(&layout.bin())?;

        let state = State::load(layout.state())?;
        let mut cluster =
            Self { layout, services: Vec::new(), machines: Vec::new(), ends_on_drop: true };
        match cluster.start(spec, state, progress) {
            Ok(()) => Ok(cluster),
            Err(error) => {
                // The lock is held here: drop must not end it a second time.
                cluster.ends_on_drop = false;
                cluster.end()?;
                Err(error)
            }
        }
    }

    /// Ends the cluster in `dir`, whoever started it, and removes all that it left on
    /// the machine except its logs. Without a cluster there this does nothing.
    ///
    /// # Errors
    /// When a process cannot be ended or something cannot be removed.
    pub fn down(dir: &Path) -> Result<()> {
        if !dir.exists() {
            return Ok(());
        }
        let layout = open(dir)?;
        let _lock = files::lock(layout.dir())?;
        cleanup::clear(&layout)
    }

    /// Where clusters were started and not ended, among `dir` and the directories in it. Whoever
    /// started one may be using it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all_in(dir: &Path) -> Result<Vec<PathBuf>> {
        cleanup::recorded(dir)
    }

    /// The cluster that runs in `dir`, whoever started it. It goes on when the returned
    /// value is dropped.
    ///
    /// # Errors
    /// When none runs there.
    pub fn attach(dir: &Path) -> Result<Self> {
        let layout = open(dir)?;
        let state = State::load(layout.state())?;
        let runs = |process: &StartedProcess| process.identity.is_running();
        if state.processes().is_empty() || !state.processes().iter().all(runs) {
            return Err(Error::NotRunning { dir: layout.dir().to_owned() });
        }
        Ok(Self { layout, services: Vec::new(), machines: Vec::new(), ends_on_drop: false })
    }

    /// The names of the nodes that are machines, none for a control plane only.
    ///
    /// # Errors
    /// When the cluster's record is damaged.
    pub fn nodes(&self) -> Result<Vec<String>> {
        Ok(State::load(self.layout.state())?.nodes().to_vec())
    }

    /// Gives images to all nodes. Pods must not pull (`imagePullPolicy: IfNotPresent`
    /// or `Never`): there is no registry.
    ///
    /// # Errors
    /// When a node has ended or refuses an archive.
    pub fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        let state = State::load(self.layout.state())?;
        for name in state.nodes() {
            let node = Namespaces::find(name, &state)
                .ok_or_else(|| Error::NotRunning { dir: self.layout.node(name) })?;
            archives.iter().try_for_each(|archive| node::import_image(node, archive))?;
        }
        Ok(())
    }

    /// The paths of the cluster's files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// Disconnects a node from the API server, like pulling its cable.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn disconnect(&self, node: &str) -> Result<()> {
        network::set_link(node, false)
    }

    /// Undoes [`disconnect`](Cluster::disconnect).
    ///
    /// # Errors
    /// When there is no such node.
    pub fn reconnect(&self, node: &str) -> Result<()> {
        network::set_link(node, true)
    }

    /// The file of a node's network namespace, for `setns` or `nsenter --net`.
    ///
    /// # Errors
    /// When there is no such node, or it has ended.
    pub fn network_of(&self, node: &str) -> Result<PathBuf> {
        let state = State::load(self.layout.state())?;
        let namespaces = Namespaces::find(node, &state)
            .ok_or_else(|| Error::NotRunning { dir: self.layout.node(node) })?;
        Ok(namespaces.network())
    }

    /// Removes a node's pod network. Its kubelet then reports that it is not Ready.
    ///
    /// # Errors
    /// When there is no such node, or it has none.
    pub fn remove_pod_network(&self, node: &str) -> Result<()> {
        node::set_pod_network(node, &self.layout, false)
    }

    /// Undoes [`remove_pod_network`](Cluster::remove_pod_network).
    ///
    /// # Errors
    /// When there is no such node.
    pub fn restore_pod_network(&self, node: &str) -> Result<()> {
        node::set_pod_network(node, &self.layout, true)
    }

    /// Kills a node's kubelet and starts it again. It registers its Node if that is missing.
    ///
    /// # Errors
    /// When there is no such node, or its kubelet does not run or start.
    pub fn restart_kubelet(&self, node: &str) -> Result<()> {
        let _lock = files::lock(self.layout.dir())?;
        node::restart_kubelet(node, &self.layout, &mut State::load(self.layout.state())?)
    }

    /// Reboots a node: all that runs on it ends, and after `while_down` starts again under this boot id.
    ///
    /// # Errors
    /// When there is no such node, or it does not start again.
    pub fn reboot(&self, node: &str, boot_id: &str, while_down: impl FnOnce()) -> Result<()> {
        let _lock = files::lock(self.layout.dir())?;
        let mut state = State::load(self.layout.state())?;
        node::reboot(node, boot_id, &self.layout, &mut state, while_down)
    }

    /// Lets the cluster go on without this value, until [`Cluster::down`].
    pub fn detach(mut self) {
        self.ends_on_drop = false;
    }

    fn start(
        &mut self,
        spec: &ClusterSpec,
        mut state: State,
        progress: &dyn Fn(&str),
    ) -> Result<()> {
        let pki = Pki::create(self.layout.pki())?;
        match &spec.nodes {
            Nodes::ControlPlaneOnly { .. } => {
                self.services =
                    control_plane::start(spec, &self.layout, &pki, &mut state, progress)?;
            }
            Nodes::Real(nodes) => {
                self.boot_machines(nodes, &mut state)?;
                self.services =
                    control_plane::start(spec, &self.layout, &pki, &mut state, progress)?;
                self.join_machines(nodes, &pki, &mut state)?;
                progress("waiting for the nodes to be Ready");
                self.wait_for_nodes()?;
            }
        }
        Ok(())
    }

    /// The nodes' containerds start while the control plane does.
    fn boot_machines(&mut self, nodes: &RealNodes, state: &mut State) -> Result<()> {
        let all = Node::all(nodes.count)?;
        cleanup::claim_bridge(self.layout.dir())?;
        let hierarchies = Hierarchies::mounted()?;
        hierarchies.check()?;
        state.add_sysctls(sysctl::current())?;
        state.add_nodes(all.iter().map(|node| node.name.clone()))?;
        network::create_bridge(self.layout.dir())?;
        for node in all {
            self.machines.push(Machine::boot(node, nodes, &self.layout, &hierarchies, state)?);
        }
        Ok(())
    }

    fn join_machines(&mut self, nodes: &RealNodes, pki: &Pki, state: &mut State) -> Result<()> {
        let sandbox_image = node::write_sandbox_image(nodes, &self.layout)?;
        for machine in &mut self.machines {
            machine.join(nodes, &sandbox_image, &self.layout, pki, state)?;
        }
        Ok(())
    }

    fn wait_for_nodes(&mut self) -> Result<()> {
        let kubectl = Kubectl::new(&self.layout);
        let names: Vec<String> =
            self.machines.iter().map(|machine| machine.name().to_owned()).collect();
        let mut kubelets: Vec<_> =
            self.machines.iter_mut().filter_map(Machine::kubelet_mut).collect();
        service::wait_until(&mut kubelets, "all nodes to be Ready", READY_WITHIN, || {
            let report = kubectl.ask(&["get", "nodes", "--output", NODE_REPORT])?;
            Ok(report.is_some_and(|report| all_ready(&report, &names)))
        })
    }

    fn end(&mut self) -> Result<()> {
        let ended = cleanup::clear(&self.layout);
        let machines = self.machines.drain(..).flat_map(Machine::into_services);
        self.services.drain(..).chain(machines).for_each(Service::reap);
        ended
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.ends_on_drop {
            return;
        }
        let ended = files::lock(self.layout.dir()).and_then(|_lock| self.end());
        if let Err(error) = ended {
            eprintln!("the cluster in {} was not ended: {error}", self.layout.dir().display());
        }
    }
}

/// A line a node: its name, the status of its Ready condition, its taints' keys.
const NODE_REPORT: &str = "jsonpath={range .items[*]}{.metadata.name} \
    {.status.conditions[?(@.type==\"Ready\")].status} {.spec.taints[*].key}{\"\\n\"}{end}";

/// Whether every one of these nodes is Ready, and the node lifecycle controller has
/// taken its own taints off.
fn all_ready(report: &str, names: &[String]) -> bool {
    names.iter().all(|name| {
        report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
            matches!(words[..], [node, "True", ref taints @ ..]
                if node == name && !taints.iter().any(|key| key.starts_with("node.kubernetes.io/")))
        })
    })
}

/// The layout of a cluster's directory, which is created when it is not there.
fn open(dir: &Path) -> Result<Layout> {
    files::create_dir(dir)?;
    let dir = dir.canonicalize().map_err(files::failed("open", dir))?;
    Ok(Layout::new(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_ready_when_only_their_startup_taints_are_left() {
        let names = ["node-a".to_owned(), "node-b".to_owned()];
        let ready = "node-a True readiness.k8s.io/NetworkReady\nnode-b True \n";
        assert!(all_ready(ready, &names));

        for report in [
            "",
            "node-a True \n",
            "node-a True \nnode-b False \n",
            "node-a True \nnode-b True node.kubernetes.io/not-ready\n",
        ] {
            assert!(!all_ready(report, &names), "{report}");
        }
    }
}
