//! Copies the program into another image.
//!
//! A rule may name an image of its own for the programs of `exec` probes. An init container with the reporter's
//! image then copies the reporter into a shared directory. The reporter's image has no shell or `cp`.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use node_readiness_api::REPORTER_PROGRAM;

/// The program could not be copied.
#[derive(Debug, thiserror::Error)]
#[error(
    "--install {}: the program cannot be copied there ({source}): mount a directory there that \
     this process can write to", directory.display()
)]
pub struct InstallError {
    directory: PathBuf,
    source: io::Error,
}

/// Copies this program into a directory, executable for everyone. The copy is atomic, so neither a second try
/// nor a container that does not wait sees a part of it.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn install(directory: &Path) -> Result<(), InstallError> {
    copy(directory).map_err(|source| InstallError { directory: directory.into(), source })
}

fn copy(directory: &Path) -> io::Result<()> {
    let target = directory.join(REPORTER_PROGRAM);
    let next = target.with_added_extension("next");
    fs::copy(env::current_exe()?, &next)?;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
    fs::rename(next, target)
}
