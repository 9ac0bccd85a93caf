//! The network between host and nodes: one bridge, and a pair of virtual Ethernet
//! interfaces a node. Nothing is routed or translated on the host, so what happens
//! here stays on this bridge: no node reaches the outside, and no host setting changes.
//!
//! The Service range lies within the bridge's network and its first address, that
//! of the Service `kubernetes`, is the bridge's own. So every pod's ordinary
//! in-cluster configuration leads to the API server with no kube-proxy.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    command::{run, words},
    error::{Error, Result},
};

/// The bridge's name. Interface names have at most 15 characters.
pub(crate) const BRIDGE: &str = "nrr0";

/// The host's address on the bridge, and the address of the Service `kubernetes`.
pub(crate) const BRIDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);

/// Where Services get their addresses.
pub(crate) const SERVICE_RANGE: &str = "10.77.1.0/24";

/// The prefix length of the network that bridge and nodes share.
const PREFIX: u8 = 16;

/// Makes the bridge for the cluster in `owner`, and notes that on the bridge itself.
pub(crate) fn create_bridge(owner: &Path) -> Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["link", "set", BRIDGE, "alias", &owner.display().to_string()])?;
    ip(&["address", "add", &format!("{BRIDGE_ADDRESS}/{PREFIX}"), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])
}

/// Removes the bridge and what is left of these nodes' cables. The kernel takes a
/// cable away with a node's last process, but in its own time.
pub(crate) fn remove(nodes: &[String]) -> Result<()> {
    for node in nodes {
        let interface = host_interface(node);
        if exists(&interface)
            && let Err(error) = ip(&["link", "delete", &interface])
            && exists(&interface)
        {
            return Err(error);
        }
    }
    remove_bridge()
}

/// Removes the bridge, if it is there.
pub(crate) fn remove_bridge() -> Result<()> {
    if exists(BRIDGE) { ip(&["link", "delete", BRIDGE]) } else { Ok(()) }
}

/// The directory of the cluster that the bridge belongs to.
pub(crate) fn bridge_owner() -> Option<PathBuf> {
    let owner = fs::read_to_string(format!("/sys/class/net/{BRIDGE}/ifalias")).ok()?;
    Some(owner.trim_end().into())
}

fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

/// Connects the network namespace of process `pid` to the bridge.
pub(crate) fn connect(node: &str, pid: i32, address: Ipv4Addr) -> Result<()> {
    let (interface, pid) = (host_interface(node), pid.to_string());
    ip(&["link", "add", &interface, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    ip(&["link", "set", &interface, "master", BRIDGE, "up"])?;
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", &format!("{address}/{PREFIX}"), "dev", "eth0"],
        &["link", "set", "eth0", "up"],
    ] {
        let inside = ["--target", &pid, "--net", "--", "ip"];
        run(words("nsenter", inside).args(arguments))?;
    }
    Ok(())
}

/// Cuts a node off, or connects it again, as pulling and plugging its cable would.
pub(crate) fn set_link(node: &str, up: bool) -> Result<()> {
    ip(&["link", "set", &host_interface(node), if up { "up" } else { "down" }])
}

/// The host's end of a node's cable.
fn host_interface(node: &str) -> String {
    format!("nrr-{node}")
}

/// The address of the node with this index. Outside the Service range.
pub(crate) fn node_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 2, index + 1)
}

/// Where the pods of the node with this index get their addresses. The node hides
/// them behind its own, so they need to be unique only to be readable.
pub(crate) fn pod_range(index: u8) -> String {
    format!("10.78.{index}.0/24")
}

/// The first `iptables` of this machine that can masquerade in the node's network
/// namespace. Debian has two, over different kernel interfaces, of which a kernel
/// may lack one, and which of them `iptables` means is an administrator's choice.
pub(crate) fn working_iptables(pid: i32) -> Result<&'static str> {
    let mut last_error = String::new();
    for program in ["iptables", "iptables-nft", "iptables-legacy"] {
        let pid = pid.to_string();
        let probe = |action| {
            let inside = ["--target", &pid, "--net", "--", program, "--wait", "--table", "nat"];
            run(words("nsenter", inside).args([action, "POSTROUTING", "--jump", "MASQUERADE"]))
        };
        match probe("--append").and_then(|_| probe("--delete")) {
            Ok(_) => return Ok(program),
            Err(error) => last_error = error.to_string(),
        }
    }
    Err(Error::NoMasquerade { stderr: last_error })
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(&mut words("ip", arguments.iter().copied())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_the_kernels_limit() {
        assert!(host_interface("node-z").len() <= 15);
    }

    #[test]
    fn no_node_has_an_address_of_the_service_range() {
        let service_net = BRIDGE_ADDRESS.octets()[2];
        assert!((0..26).all(|index| node_address(index).octets()[2] != service_net));
        assert_eq!(node_address(0), Ipv4Addr::new(10, 77, 2, 1));
    }
}
