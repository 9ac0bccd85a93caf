//! A node's kubelet. It starts when the node joins, and again when a test restarts it.

use std::path::PathBuf;

use super::{Namespaces, Node, config};
use crate::{
    control_plane,
    error::{Error, Result},
    files,
    identity::ProcessIdentity,
    kubeconfig,
    layout::Layout,
    pki::{Pki, User},
    service::Service,
    spec::RealNodes,
    state::State,
};

/// The files of a kubelet.
struct Files {
    config: PathBuf,
    kubeconfig: PathBuf,
}

impl Files {
    fn of(node: &Node, layout: &Layout) -> Self {
        Self {
            config: layout.node(&node.name).join("kubelet.json"),
            kubeconfig: layout.kubelet_kubeconfig(&node.name),
        }
    }
}

/// Starts a kubelet for the first time.
pub(super) fn start(
    node: &Node,
    namespaces: Namespaces,
    nodes: &RealNodes,
    layout: &Layout,
    pki: &Pki,
    state: &mut State,
) -> Result<Service> {
    let files = Files::of(node, layout);
    let authority = pki.authority();
    let client = pki.client(&service_name(node), &User::kubelet(&node.name))?;
    let server = pki.kubelet_server(&node.name, node.address)?;
    let url = control_plane::url_for_nodes();
    kubeconfig::write(files.kubeconfig.clone(), &url, &authority, &client)?;
    // The file is empty: no name server runs here, and a node cannot reach the host's.
    let resolv_conf = layout.node(&node.name).join("resolv.conf");
    files::write(&resolv_conf, "")?;
    let rendered = config::kubelet(node, &authority, &server, &resolv_conf, &nodes.startup_taints);
    files::write(&files.config, format!("{rendered:#}\n"))?;
    run(node, namespaces, &files, layout, state)
}

/// Kills a kubelet and starts it again with the same files.
pub(crate) fn restart(name: &str, layout: &Layout, state: &mut State) -> Result<()> {
    let not_running = || Error::NotRunning { dir: layout.node(name) };
    let node = Node::named(name).ok_or_else(not_running)?;
    let namespaces = Namespaces::find(name, state).ok_or_else(not_running)?;
    let service = service_name(&node);
    let recorded = state.take_process(&service)?.ok_or_else(not_running)?;
    // The recorded process is nsenter, which waits for the kubelet and ends with it.
    let kubelet = ProcessIdentity::only_child_of(recorded.pid.unsigned_abs())?;
    let pid = kubelet.pid;
    kubelet.kill().map_err(|cause| Error::Kill { name: service, pid, cause })?;
    start_again(&node, namespaces, layout, state)
}

/// Starts a kubelet that has ended again, with the same files.
pub(super) fn start_again(
    node: &Node,
    namespaces: Namespaces,
    layout: &Layout,
    state: &mut State,
) -> Result<()> {
    run(node, namespaces, &Files::of(node, layout), layout, state)?.check()
}

fn run(
    node: &Node,
    namespaces: Namespaces,
    files: &Files,
    layout: &Layout,
    state: &mut State,
) -> Result<Service> {
    let mut command = namespaces.command(&layout.bin().join("kubelet"));
    command.arg("--config").arg(&files.config).arg("--kubeconfig").arg(&files.kubeconfig);
    command.arg(format!("--node-ip={}", node.address));
    Service::start(&service_name(node), command, &layout.log(), state)
}

pub(super) fn service_name(node: &Node) -> String {
    format!("kubelet-{}", node.name)
}
