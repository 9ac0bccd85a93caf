//! The network between host and nodes: one bridge, and a pair of virtual Ethernet interfaces for each node. The host
//! neither routes nor translates, so traffic stays on this bridge: no node reaches other networks, and no setting of
//! the host changes.
//!
//! The Service range is part of the bridge's network. Its first address is the address of the Service `kubernetes` and
//! of the bridge itself. So the in-cluster configuration of every pod reaches the API server without kube-proxy.

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

/// The address range of Services.
pub(crate) const SERVICE_RANGE: &str = "10.77.1.0/24";

/// The prefix length of the network that bridge and nodes share.
const PREFIX: u8 = 16;

/// Creates the bridge for the cluster in `owner`, and records `owner` on the bridge itself.
pub(crate) fn create_bridge(owner: &Path) -> Result<()> {
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["link", "set", BRIDGE, "alias", &owner.display().to_string()])?;
    ip(&["address", "add", &format!("{BRIDGE_ADDRESS}/{PREFIX}"), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])
}

/// Removes the bridge and the remaining interfaces of these nodes. The kernel removes a node's interfaces some time
/// after the node's last process has ended.
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

/// Removes the bridge, if it exists.
pub(crate) fn remove_bridge() -> Result<()> {
    if exists(BRIDGE) { ip(&["link", "delete", BRIDGE]) } else { Ok(()) }
}

/// Returns the directory of the cluster that owns the bridge.
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

/// Connects a node's cable, or disconnects it.
pub(crate) fn set_link(node: &str, up: bool) -> Result<()> {
    ip(&["link", "set", &host_interface(node), if up { "up" } else { "down" }])
}

/// Returns the name of the host's interface to a node.
fn host_interface(node: &str) -> String {
    format!("nrr-{node}")
}

/// Returns the address of the node with this index. It is outside the Service range.
pub(crate) fn node_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 2, index + 1)
}

/// Returns the pod address range of the node with this index. Nodes masquerade the addresses of pods. They are unique
/// only so that logs are readable.
pub(crate) fn pod_range(index: u8) -> String {
    format!("10.78.{index}.0/24")
}

/// Returns the first `iptables` of this machine that can masquerade in the node's network namespace. Debian has two,
/// which use different kernel interfaces. A kernel may lack one of the interfaces, and the administrator chooses which
/// program is called `iptables`.
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
