//! A TCP port that is open or not, depending on the behavior.

use std::{convert::Infallible, io, net::SocketAddr};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::behavior::Behavior;

/// Listens while the behavior is not to be gone, and has each connection answered in the behavior
/// of its moment.
pub(crate) async fn serve<A>(
    address: SocketAddr,
    mut behavior: watch::Receiver<Behavior>,
    answer: impl Fn(TcpStream, Behavior) -> A,
) -> io::Result<Infallible>
where
    A: Future<Output = ()> + Send + 'static,
{
    let current = behavior.clone();
    loop {
        await_behavior(&mut behavior, |behavior| behavior != Behavior::Gone).await?;
        let listener = TcpListener::bind(address).await?;
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let behavior = *current.borrow();
                    tokio::spawn(answer(accepted?.0, behavior));
                }
                gone = await_behavior(&mut behavior, |behavior| behavior == Behavior::Gone) => {
                    gone?;
                    break;
                }
            }
        }
    }
}

/// What the TCP test server does: it accepts, and that is all.
pub(crate) async fn hang_up(stream: TcpStream, _behavior: Behavior) {
    drop(stream);
}

/// Waits for a behavior. It fails when nobody can change behaviors any more.
pub(crate) async fn await_behavior(
    behavior: &mut watch::Receiver<Behavior>,
    is_it: impl Fn(Behavior) -> bool,
) -> io::Result<Behavior> {
    behavior
        .wait_for(|behavior| is_it(*behavior))
        .await
        .map(|behavior| *behavior)
        .map_err(io::Error::other)
}
