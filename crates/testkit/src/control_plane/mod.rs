//! Starts etcd, the API server, the controller manager and the scheduler in order. Each starts when the components that
//! it needs answer.

mod arguments;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use arguments::{Addresses, Files, SECURE_PORT};

use crate::{
    error::{Error, Result},
    files, kubeconfig,
    kubectl::Kubectl,
    layout::Layout,
    network,
    pki::{Pki, User},
    service::{self, Service},
    spec::ClusterSpec,
    state::State,
};

/// The timeout of a component's start, about ten times the usual time on a loaded machine.
const START_WITHIN: Duration = Duration::from_secs(90);

/// Starts the control plane and returns its services, the API server last. On return the API server is ready, and the
/// default ServiceAccount exists, without which no pod can be created.
pub(crate) fn start(
    spec: &ClusterSpec,
    layout: &Layout,
    pki: &Pki,
    state: &mut State,
    progress: &dyn Fn(&str),
) -> Result<Vec<Service>> {
    let addresses = Addresses::of(&spec.nodes);
    addresses.all().into_iter().try_for_each(check_free)?;
    let files = write_files(spec, layout, pki, &addresses)?;
    let mut start = |name: &str, arguments: Vec<String>| {
        let mut command = Command::new(layout.bin().join(name));
        command.args(arguments);
        Service::start(name, command, &layout.log(), state)
    };

    let mut etcd = start("etcd", arguments::etcd(&layout.etcd(spec.data), &addresses, &files))?;
    etcd.wait_until("etcd to be healthy", START_WITHIN, || {
        Ok(is_healthy(addresses.etcd_health()))
    })?;

    let mut api_server = start("kube-apiserver", arguments::apiserver(spec, &addresses, &files))?;
    let kubectl = Kubectl::new(layout);
    service::wait_until(
        &mut [&mut etcd, &mut api_server],
        "the API server to be ready",
        START_WITHIN,
        || Ok(kubectl.ask(&["get", "--raw", "/readyz"])?.is_some()),
    )?;
    progress("the API server is ready");

    let mut controller_manager =
        start("kube-controller-manager", arguments::controller_manager(spec, &addresses, &files))?;
    let scheduler =
        start("kube-scheduler", arguments::scheduler(spec.version, &addresses, &files))?;
    controller_manager.wait_until("the controller manager to work", START_WITHIN, || {
        Ok(kubectl.ask(&["get", "serviceaccount", "default", "--namespace", "default"])?.is_some())
    })?;
    Ok(vec![scheduler, controller_manager, etcd, api_server])
}

/// Returns the API server's URL for nodes.
pub(crate) fn url_for_nodes() -> String {
    format!("https://{}:{SECURE_PORT}", network::BRIDGE_ADDRESS)
}

fn write_files(
    spec: &ClusterSpec,
    layout: &Layout,
    pki: &Pki,
    addresses: &Addresses,
) -> Result<Files> {
    let url = addresses.server_url();
    let authority = pki.authority();
    let config = |path: PathBuf, file: &str, user: &User| {
        kubeconfig::write(path, &url, &authority, &pki.client(file, user)?)
    };
    let component = |name: &str| {
        config(layout.pki().join(format!("{name}.kubeconfig")), name, &User::component(name))
    };
    config(layout.kubeconfig(), "admin", &User::admin())?;
    Ok(Files {
        etcd: pki.etcd(addresses.internal)?,
        api_server: pki.api_server(&addresses.certificate_addresses())?,
        kubelet_client: pki.client("apiserver-kubelet-client", &User::api_server())?,
        service_account: pki.service_account_keys()?,
        controller_manager: component("kube-controller-manager")?,
        scheduler: component("kube-scheduler")?,
        admission: arguments::admission(spec)
            .map(|text| {
                let path = layout.pki().join("admission.yaml");
                files::write(&path, text).map(|()| path)
            })
            .transpose()?,
        authority,
    })
}

/// Fails if another program listens on the address. Otherwise that program could answer the checks of this module,
/// while the component itself ends with only a line in its log.
fn check_free((name, address): (&'static str, SocketAddr)) -> Result<()> {
    match TcpListener::bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(Error::AddressTaken { name, address })
        }
        // The component itself reports every other problem with the address.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns whether etcd answers `GET /health` with 200.
fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut status = [0; "HTTP/1.0 200".len()];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn the_error_names_an_address_that_another_program_uses() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap();
        let message = check_free(("etcd", address)).unwrap_err().to_string();
        let expected = format!("etcd cannot listen on {address}");
        assert!(message.starts_with(&expected), "{message}");
    }
}
