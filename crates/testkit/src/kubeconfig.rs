//! kubeconfig files. They name the files of certificates instead of embedding them, so a reader sees which identity a
//! kubeconfig has.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    error::{Error, Result},
    files,
    pki::Credentials,
};

/// The name of the cluster, the user and the context in every file.
const NAME: &str = "node-readiness";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: [Named<ClusterEntry<'a>>; 1],
    users: [Named<UserEntry<'a>>; 1],
    contexts: [Named<ContextEntry>; 1],
    current_context: &'a str,
}

#[derive(Serialize)]
struct Named<T> {
    name: &'static str,
    #[serde(flatten)]
    entry: T,
}

#[derive(Serialize)]
enum ClusterEntry<'a> {
    #[serde(rename = "cluster", rename_all = "kebab-case")]
    Cluster { server: &'a str, certificate_authority: &'a Path },
}

#[derive(Serialize)]
enum UserEntry<'a> {
    #[serde(rename = "user", rename_all = "kebab-case")]
    User { client_certificate: &'a Path, client_key: &'a Path },
}

#[derive(Serialize)]
enum ContextEntry {
    #[serde(rename = "context")]
    Context { cluster: &'static str, user: &'static str },
}

/// Writes a kubeconfig for one identity.
pub(crate) fn write(
    path: PathBuf,
    server: &str,
    authority: &Path,
    user: &Credentials,
) -> Result<PathBuf> {
    let text = render(server, authority, user)
        .map_err(|reason| Error::Render { path: path.clone(), reason })?;
    files::write_private(&path, text)?;
    Ok(path)
}

fn render(server: &str, authority: &Path, user: &Credentials) -> Result<String, String> {
    let config = Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: [Named {
            name: NAME,
            entry: ClusterEntry::Cluster { server, certificate_authority: authority },
        }],
        users: [Named {
            name: NAME,
            entry: UserEntry::User { client_certificate: &user.certificate, client_key: &user.key },
        }],
        contexts: [Named {
            name: NAME,
            entry: ContextEntry::Context { cluster: NAME, user: NAME },
        }],
        current_context: NAME,
    };
    serde_saphyr::to_string(&config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_kubeconfig_has_the_fields_that_clients_read() {
        let user =
            Credentials { certificate: "/pki/admin.crt".into(), key: "/pki/admin.key".into() };
        let text = render("https://127.0.0.1:443", Path::new("/pki/ca.crt"), &user).unwrap();

        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "node-readiness",
                "cluster": { "server": "https://127.0.0.1:443", "certificate-authority": "/pki/ca.crt" },
            }],
            "users": [{
                "name": "node-readiness",
                "user": { "client-certificate": "/pki/admin.crt", "client-key": "/pki/admin.key" },
            }],
            "contexts": [{
                "name": "node-readiness",
                "context": { "cluster": "node-readiness", "user": "node-readiness" },
            }],
            "current-context": "node-readiness",
        });
        assert_eq!(read, expected);
    }
}
