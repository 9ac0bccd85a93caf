//! A TCP port that is open or not, depending on the mood.

use std::{convert::Infallible, io, net::SocketAddr};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::mood::Mood;

/// Listens while the mood is not to be gone, and has each connection answered in the mood
/// of its moment.
pub(crate) async fn serve<A>(
    address: SocketAddr,
    mut mood: watch::Receiver<Mood>,
    answer: impl Fn(TcpStream, Mood) -> A,
) -> io::Result<Infallible>
where
    A: Future<Output = ()> + Send + 'static,
{
    let current = mood.clone();
    loop {
        await_mood(&mut mood, |mood| mood != Mood::Gone).await?;
        let listener = TcpListener::bind(address).await?;
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let mood = *current.borrow();
                    tokio::spawn(answer(accepted?.0, mood));
                }
                gone = await_mood(&mut mood, |mood| mood == Mood::Gone) => {
                    gone?;
                    break;
                }
            }
        }
    }
}

/// What the TCP counterpart does: it accepts, and that is all.
pub(crate) async fn hang_up(stream: TcpStream, _mood: Mood) {
    drop(stream);
}

/// Waits for a mood. It fails when nobody can change moods any more.
pub(crate) async fn await_mood(
    mood: &mut watch::Receiver<Mood>,
    is_it: impl Fn(Mood) -> bool,
) -> io::Result<Mood> {
    mood.wait_for(|mood| is_it(*mood)).await.map(|mood| *mood).map_err(io::Error::other)
}
