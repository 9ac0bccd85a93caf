//! The cluster: starts, ends and changes all of its parts.

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

/// The timeout of nodes to become Ready, which normally takes a few seconds.
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
    /// Starts a cluster and returns when it is usable: the API server is ready, the default ServiceAccount exists, and
    /// all nodes are Ready and have no taints except their startup taints. A cluster that an earlier run left in the
    /// same directory is ended first. `progress` receives a line for each step that takes a second or more.
    ///
    /// # Errors
    /// When a requirement is missing or a part does not start. The message names the remedy or shows the log. The
    /// parts that did start are ended, and the logs stay.
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
                // This function holds the lock, so drop must not end the cluster a second time.
                cluster.ends_on_drop = false;
                cluster.end()?;
                Err(error)
            }
        }
    }

    /// Ends the cluster in `dir`, which any process may have started. Removes all of its traces on the machine except
    /// its logs. Does nothing if there is no cluster.
    ///
    /// # Errors
    /// When a process cannot be ended or a trace cannot be removed.
    pub fn down(dir: &Path) -> Result<()> {
        if !dir.exists() {
            return Ok(());
        }
        let layout = open(dir)?;
        let _lock = files::lock(layout.dir())?;
        cleanup::clear(&layout)
    }

    /// Returns the directories with a cluster that has not been ended: `dir` and its subdirectories. Another process
    /// may be using such a cluster.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all_in(dir: &Path) -> Result<Vec<PathBuf>> {
        cleanup::recorded(dir)
    }

    /// Returns the cluster that runs in `dir`, which any process may have started. It keeps running when the returned
    /// value is dropped.
    ///
    /// # Errors
    /// When no cluster runs there.
    pub fn attach(dir: &Path) -> Result<Self> {
        let layout = open(dir)?;
        let state = State::load(layout.state())?;
        let runs = |process: &StartedProcess| process.identity.is_running();
        if state.processes().is_empty() || !state.processes().iter().all(runs) {
            return Err(Error::NotRunning { dir: layout.dir().to_owned() });
        }
        Ok(Self { layout, services: Vec::new(), machines: Vec::new(), ends_on_drop: false })
    }

    /// Returns the names of the real nodes. A cluster with only a control plane has none.
    ///
    /// # Errors
    /// When the cluster's record is damaged.
    pub fn nodes(&self) -> Result<Vec<String>> {
        Ok(State::load(self.layout.state())?.nodes().to_vec())
    }

    /// Imports images into all nodes. There is no registry, so pods must set `imagePullPolicy` to `IfNotPresent` or
    /// `Never`.
    ///
    /// # Errors
    /// When a node has ended or cannot import an archive.
    pub fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        let state = State::load(self.layout.state())?;
        for name in state.nodes() {
            let node = Namespaces::find(name, &state)
                .ok_or_else(|| Error::NotRunning { dir: self.layout.node(name) })?;
            archives.iter().try_for_each(|archive| node::import_image(node, archive))?;
        }
        Ok(())
    }

    /// Returns the paths of the cluster's files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// Disconnects a node from the network.
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

    /// Returns the file of a node's network namespace, for `setns` or `nsenter --net`.
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
    /// When there is no such node, or it has no pod network.
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

    /// Kills a node's kubelet and starts it again. The kubelet registers its Node if that is missing.
    ///
    /// # Errors
    /// When there is no such node, or its kubelet does not run or start.
    pub fn restart_kubelet(&self, node: &str) -> Result<()> {
        let _lock = files::lock(self.layout.dir())?;
        node::restart_kubelet(node, &self.layout, &mut State::load(self.layout.state())?)
    }

    /// Reboots a node: all of its processes end, and start again after `while_down` with this boot id.
    ///
    /// # Errors
    /// When there is no such node, or it does not start again.
    pub fn reboot(&self, node: &str, boot_id: &str, while_down: impl FnOnce()) -> Result<()> {
        let _lock = files::lock(self.layout.dir())?;
        let mut state = State::load(self.layout.state())?;
        node::reboot(node, boot_id, &self.layout, &mut state, while_down)
    }

    /// Drops this value without ending the cluster, which then runs until [`Cluster::down`].
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

    /// Starts the nodes' namespaces and containerds, while the control plane starts.
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
            eprintln!("cannot end the cluster in {}: {error}", self.layout.dir().display());
        }
    }
}

/// One line for each node: its name, the status of its Ready condition, and the keys of its taints.
const NODE_REPORT: &str = "jsonpath={range .items[*]}{.metadata.name} \
    {.status.conditions[?(@.type==\"Ready\")].status} {.spec.taints[*].key}{\"\\n\"}{end}";

/// Returns whether all of these nodes are Ready and without the taints of the node lifecycle controller.
fn all_ready(report: &str, names: &[String]) -> bool {
    names.iter().all(|name| {
        report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
            matches!(words[..], [node, "True", ref taints @ ..]
                if node == name && !taints.iter().any(|key| key.starts_with("node.kubernetes.io/")))
        })
    })
}

/// Returns the layout of a cluster's directory, and creates the directory if it is missing.
fn open(dir: &Path) -> Result<Layout> {
    files::create_dir(dir)?;
    let dir = dir.canonicalize().map_err(files::failed("open", dir))?;
    Ok(Layout::new(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_ready_when_they_have_only_startup_taints() {
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
