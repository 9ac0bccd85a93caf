//! etcd, API server, controller manager and scheduler, started in order, each when
//! what it needs answers.

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

/// How long a component may take; on a loaded machine ten times what it needs.
const START_WITHIN: Duration = Duration::from_secs(90);

/// Starts the control plane and returns its services, the API server last. It is
/// ready when the API server says so and the default ServiceAccount exists, without
/// which no pod can be created.
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

/// The API server as nodes reach it.
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

/// Fails when another program has the address. To the questions below a stranger there would answer as
/// well as ours, which would end with no more than a line in a log.
fn check_free((name, address): (&'static str, SocketAddr)) -> Result<()> {
    match TcpListener::bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(Error::AddressTaken { name, address })
        }
        // What else may be wrong with it, who is to listen there tells best.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether etcd answers `GET /health` with 200.
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
    fn an_address_that_another_program_has_is_named() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap();
        let message = check_free(("etcd", address)).unwrap_err().to_string();
        let expected = format!("{address}, where etcd is to listen, is taken");
        assert!(message.starts_with(&expected), "{message}");
    }
}
