//! Short digests. They are recorded in the cluster, so they must not depend on this program's version.

use sha2::{Digest, Sha256};

/// Returns the first eight bytes of a text's SHA-256.
pub(crate) fn short(text: &str) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&Sha256::digest(text)[..8]);
    u64::from_be_bytes(head)
}

/// Returns the form of a short digest in the cluster.
pub(crate) fn to_text(digest: u64) -> String {
    format!("{digest:016x}")
}
