//! A TCP port that is open or closed according to the behavior.

use std::{convert::Infallible, io, net::SocketAddr};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::behavior::Behavior;

/// Listens unless the behavior is `Gone`, and answers each connection with the current behavior.
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

/// The TCP test server, which closes each accepted connection.
pub(crate) async fn hang_up(stream: TcpStream, _behavior: Behavior) {
    drop(stream);
}

/// Waits for a behavior.
///
/// # Errors
/// When the control port has ended, so behaviors no longer change.
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
