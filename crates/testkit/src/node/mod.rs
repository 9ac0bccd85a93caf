//! Real nodes. Each is a containerd and a kubelet in namespaces, a cgroup and directories of its own, so nodes share
//! only the kernel.

mod config;
mod kubelet;
mod namespaces;

use std::{
    env,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub(crate) use kubelet::restart as restart_kubelet;
pub(crate) use namespaces::Namespaces;

use crate::{
    cgroup::Hierarchies,
    command::run,
    error::{Error, Result},
    files, host,
    image::Image,
    layout::Layout,
    network,
    pki::Pki,
    service::Service,
    spec::RealNodes,
    state::State,
};

/// The maximum number of nodes: one for each letter.
const MAX_NODES: usize = 26;

/// The timeout of containerd's start, which normally takes half a second.
const CONTAINERD_WITHIN: Duration = Duration::from_mins(1);

/// A node's name and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    index: u8,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

impl Node {
    fn nth(index: u8) -> Self {
        let letter = char::from(b'a' + index);
        Self { index, name: format!("node-{letter}"), address: network::node_address(index) }
    }

    /// Returns the node with this name.
    fn named(name: &str) -> Option<Self> {
        Self::all(MAX_NODES).ok()?.into_iter().find(|node| node.name == name)
    }

    /// Returns the first `count` nodes.
    pub(crate) fn all(count: usize) -> Result<Vec<Self>> {
        match u8::try_from(count) {
            Ok(number) if (1..=MAX_NODES).contains(&count) => {
                Ok((0..number).map(Self::nth).collect())
            }
            _ => Err(Error::NodeCount { count, max: MAX_NODES }),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Machine {
    node: Node,
    namespaces: Namespaces,
    unshare: Service,
    containerd: Service,
    kubelet: Option<Service>,
}

impl Machine {
    /// Starts a node's namespaces and containerd. This needs no API server yet.
    pub(crate) fn boot(
        node: Node,
        nodes: &RealNodes,
        layout: &Layout,
        hierarchies: &Hierarchies,
        state: &mut State,
    ) -> Result<Self> {
        hierarchies.create(&node.name)?;
        let (namespaces, unshare) =
            Namespaces::create(&node, &nodes.testkit_binary, layout, state)?;
        network::connect(&node.name, namespaces.init(), node.address)?;
        let containerd = start_containerd(&node, namespaces, layout, state)?;
        Ok(Self { node, namespaces, unshare, containerd, kubelet: None })
    }

    /// Imports images into containerd and starts the kubelet, which registers the Node.
    pub(crate) fn join(
        &mut self,
        nodes: &RealNodes,
        sandbox_image: &Path,
        layout: &Layout,
        pki: &Pki,
        state: &mut State,
    ) -> Result<()> {
        let namespaces = self.namespaces;
        await_containerd(&mut self.containerd, namespaces)?;
        import_image(namespaces, sandbox_image)?;
        for image in &nodes.images {
            import_image(namespaces, image)?;
        }
        self.kubelet = Some(kubelet::start(&self.node, namespaces, nodes, layout, pki, state)?);
        Ok(())
    }

    /// The Node's name.
    pub(crate) fn name(&self) -> &str {
        &self.node.name
    }

    /// The kubelet, once the node has joined.
    pub(crate) fn kubelet_mut(&mut self) -> Option<&mut Service> {
        self.kubelet.as_mut()
    }

    /// Leaves the processes running after this value is dropped.
    pub(crate) fn into_services(self) -> impl Iterator<Item = Service> {
        [Some(self.containerd), self.kubelet, Some(self.unshare)].into_iter().flatten()
    }
}

/// Ends all processes on a node, and starts it again after `while_down` with another boot id, like a reboot.
pub(crate) fn reboot(
    name: &str,
    boot_id: &str,
    layout: &Layout,
    state: &mut State,
    while_down: impl FnOnce(),
) -> Result<()> {
    let not_running = || Error::NotRunning { dir: layout.node(name) };
    let node = Node::named(name).ok_or_else(not_running)?;
    let namespaces = Namespaces::find(name, state).ok_or_else(not_running)?;
    for service in [kubelet::service_name(&node), containerd_name(&node)] {
        state.take_process(&service)?.ok_or_else(not_running)?;
    }
    namespaces.shut_down(&layout.node(name), boot_id)?;
    while_down();
    let mut containerd = run_containerd(&node, namespaces, layout, state)?;
    await_containerd(&mut containerd, namespaces)?;
    kubelet::start_again(&node, namespaces, layout, state)
}

fn await_containerd(containerd: &mut Service, namespaces: Namespaces) -> Result<()> {
    containerd.wait_until("containerd to answer", CONTAINERD_WITHIN, || {
        let version = ctr(namespaces, &["version"]).output();
        Ok(version.is_ok_and(|output| output.status.success()))
    })
}

/// Writes the image of the pods' sandboxes.
pub(crate) fn write_sandbox_image(nodes: &RealNodes, layout: &Layout) -> Result<PathBuf> {
    files::create_dir(&layout.nodes())?;
    let archive = layout.nodes().join("sandbox.tar");
    let image = Image {
        reference: config::SANDBOX_IMAGE.to_owned(),
        binary: nodes.testkit_binary.with_file_name("node-readiness-pause"),
        default_arguments: Vec::new(),
    };
    image.write(&archive)?;
    Ok(archive)
}

/// Imports an image archive into a running node.
pub(crate) fn import_image(namespaces: Namespaces, archive: &Path) -> Result<()> {
    let mut command =
        ctr(namespaces, &["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"]);
    run(command.arg(archive)).map(drop)
}

fn ctr(namespaces: Namespaces, arguments: &[&str]) -> Command {
    let mut command = namespaces.command(Path::new("ctr"));
    command.args(["--address", config::SOCKET]).args(arguments);
    command
}

fn start_containerd(
    node: &Node,
    namespaces: Namespaces,
    layout: &Layout,
    state: &mut State,
) -> Result<Service> {
    let dir = layout.node(&node.name);
    let cni_config = dir.join("cni");
    files::create_dir(&cni_config)?;
    write_pod_network(node, layout)?;

    let cni_plugins = host::cni_dir().unwrap_or(Path::new("/opt/cni/bin"));
    let config = config::containerd(&dir.join("containerd"), &cni_config, cni_plugins);
    files::write(&containerd_config(node, layout), config)?;
    link_iptables(&bin_dir(node, layout), namespaces)?;
    run_containerd(node, namespaces, layout, state)
}

fn run_containerd(
    node: &Node,
    namespaces: Namespaces,
    layout: &Layout,
    state: &mut State,
) -> Result<Service> {
    let mut command = namespaces.command(&program("containerd"));
    command.arg("--config").arg(containerd_config(node, layout));
    command.env("PATH", search_path(bin_dir(node, layout))?);
    Service::start(&containerd_name(node), command, &layout.log(), state)
}

fn containerd_name(node: &Node) -> String {
    format!("containerd-{}", node.name)
}

fn containerd_config(node: &Node, layout: &Layout) -> PathBuf {
    layout.node(&node.name).join("containerd.toml")
}

/// Returns the directory of programs that only this node uses.
fn bin_dir(node: &Node, layout: &Layout) -> PathBuf {
    layout.node(&node.name).join("bin")
}

/// Adds or removes a node's pod network. Without it, as without a network plugin, kubelet reports the node as not
/// Ready. containerd watches the directory.
pub(crate) fn set_pod_network(name: &str, layout: &Layout, is_there: bool) -> Result<()> {
    let node = Node::named(name).ok_or_else(|| Error::NotRunning { dir: layout.node(name) })?;
    if is_there {
        write_pod_network(&node, layout)
    } else {
        files::remove(&pod_network_file(&node, layout))
    }
}

fn write_pod_network(node: &Node, layout: &Layout) -> Result<()> {
    let network = config::pod_network(&network::pod_range(node.index)).to_string();
    files::write(&pod_network_file(node, layout), network)
}

fn pod_network_file(node: &Node, layout: &Layout) -> PathBuf {
    layout.node(&node.name).join("cni/10-node-readiness.conflist")
}

/// Adds a working `iptables` to a directory, because the CNI plugins call it by that name.
fn link_iptables(dir: &Path, namespaces: Namespaces) -> Result<()> {
    let iptables = program(network::working_iptables(namespaces.init())?);
    files::create_dir(dir)?;
    let link = dir.join("iptables");
    std::os::unix::fs::symlink(iptables, &link).map_err(files::failed("create", &link))
}

/// Returns a search path that begins with a directory.
fn search_path(first: PathBuf) -> Result<std::ffi::OsString> {
    let system = env::var_os("PATH").unwrap_or_default();
    let rest = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let path = std::iter::once(first.clone()).chain(env::split_paths(&system)).chain(rest);
    env::join_paths(path).map_err(|error| Error::Render { path: first, reason: error.to_string() })
}

/// Removes traces of nodes outside the cluster's directory. All their processes must have ended.
pub(crate) fn clear(names: &[String]) -> Result<()> {
    network::remove(names)?;
    let hierarchies = Hierarchies::mounted()?;
    for name in names {
        hierarchies.remove(name)?;
    }
    namespaces::remove_mount_points();
    Ok(())
}

/// Returns the path of a program that [`host::check`] has found.
fn program(name: &str) -> PathBuf {
    host::find(name).unwrap_or_else(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_by_letters() {
        let names = |count| {
            Node::all(count)
                .map(|nodes| nodes.into_iter().map(|node| node.name).collect::<Vec<_>>())
                .ok()
        };
        assert_eq!(names(2), Some(vec!["node-a".to_owned(), "node-b".to_owned()]));
        assert_eq!(names(26).and_then(|mut names| names.pop()), Some("node-z".to_owned()));
        assert_eq!(names(27), None);
        assert_eq!(names(0), None);
    }
}
