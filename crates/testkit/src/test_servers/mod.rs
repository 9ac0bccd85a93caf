//! Servers for tests, one for each kind of probe: an HTTP and an HTTPS server, a TCP port, a gRPC health service, a
//! Unix socket, a file, and the behavior of an exec probe's program.
//!
//! A test sets the behavior of each over HTTP, so one pod on a node shows all failures of an agent. The servers
//! implement only as much of their protocols as tests need.
//!
//! | request to the control port | effect |
//! | --- | --- |
//! | `PUT /<test server>/<behavior>` | sets the behavior of that test server |
//! | `GET /<test server>` | returns its behavior |
//! | `GET /ca` | returns the certificate of the HTTPS server |

mod behavior;
mod control;
pub(crate) mod exec;
mod grpc;
mod http;
mod on_disk;
mod ports;
mod tls;

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use behavior::{Switches, TestServer};

/// The command line of the test servers.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The address of the control port. HTTP, HTTPS, TCP and gRPC are on the next four ports.
    #[arg(long, default_value = "0.0.0.0:9180")]
    control: SocketAddr,
    /// The directory for the socket, agent.sock, and the file, agent.ready.
    #[arg(long)]
    dir: PathBuf,
}

/// Serves until SIGTERM. All test servers begin with the behavior `Ready`.
pub(crate) async fn run(options: Options) -> io::Result<()> {
    let Options { control, dir } = options;
    let mut terminate = signal(SignalKind::terminate())?;
    std::fs::create_dir_all(&dir)?;
    let switches = Switches::default();
    let behavior = |test_server| switches.of(test_server);
    let after = |offset: u16| SocketAddr::new(control.ip(), control.port() + offset);
    let (tls, certificate) = tls::acceptor().map_err(io::Error::other)?;

    // Each of them ends only with an error.
    let mut tasks: JoinSet<io::Result<Infallible>> = JoinSet::new();
    tasks.spawn(ports::serve(after(1), behavior(TestServer::Http), http::answer));
    tasks.spawn(ports::serve(after(2), behavior(TestServer::Https), move |stream, behavior| {
        tls::answer(tls.clone(), stream, behavior)
    }));
    tasks.spawn(ports::serve(after(3), behavior(TestServer::Tcp), ports::hang_up));
    tasks.spawn(ports::serve(after(4), behavior(TestServer::Grpc), grpc::answer));
    tasks.spawn(on_disk::socket(dir.join("agent.sock"), behavior(TestServer::Unix)));
    tasks.spawn(on_disk::file(dir.join("agent.ready"), behavior(TestServer::File)));

    let listener = TcpListener::bind(control).await?;
    println!("the control port is {control}, the files are in {}", dir.display());
    let controlled = axum::serve(listener, control::router(switches, certificate));
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = controlled.into_future() => result,
        Some(ended) = tasks.join_next() => match ended.map_err(io::Error::other)? {
            Err(error) => Err(error),
        },
    }
}
