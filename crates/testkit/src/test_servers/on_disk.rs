//! The test servers for probes of a Unix socket and of a file.

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{net::UnixListener, sync::watch};

use super::{behavior::Behavior, ports::await_behavior};

/// The age of the old file.
const OLD: Duration = Duration::from_hours(1);

/// Serves a socket that accepts connections, or puts a file in its place, or removes it. Only the socket's owner may
/// connect, which is the result of the usual umask.
pub(crate) async fn socket(
    path: PathBuf,
    mut behavior: watch::Receiver<Behavior>,
) -> io::Result<Infallible> {
    loop {
        let now = *behavior.borrow_and_update();
        remove(&path)?;
        match now {
            Behavior::Ready => {
                let listener = UnixListener::bind(&path)?;
                tokio::select! {
                    error = accept(&listener) => return Err(error),
                    changed = await_behavior(&mut behavior, |behavior| behavior != Behavior::Ready) => changed?,
                };
                continue;
            }
            Behavior::Failing => drop(File::create(&path)?),
            _ => {}
        }
        await_behavior(&mut behavior, |behavior| behavior != now).await?;
    }
}

async fn accept(listener: &UnixListener) -> io::Error {
    loop {
        if let Err(error) = listener.accept().await {
            return error;
        }
    }
}

/// Writes a new file or an old one, or removes it.
pub(crate) async fn file(
    path: PathBuf,
    mut behavior: watch::Receiver<Behavior>,
) -> io::Result<Infallible> {
    loop {
        let now = *behavior.borrow_and_update();
        match now {
            Behavior::Ready => write(&path, SystemTime::now())?,
            Behavior::Failing => write(&path, SystemTime::now() - OLD)?,
            _ => remove(&path)?,
        }
        await_behavior(&mut behavior, |behavior| behavior != now).await?;
    }
}

fn write(path: &Path, modified: SystemTime) -> io::Result<()> {
    File::create(path)?.set_modified(modified)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
