//! Container images of one static binary each, written without a container tool.
//!
//! The archive has the format of `docker save`: `manifest.json`, the image's config, and one uncompressed layer.
//! `docker load`, `kind load image-archive` and `ctr images import` read it. Times, owners and order are fixed, so
//! equal binaries give equal archives.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{digest::sha256, error::Result, files};

/// The unprivileged user and group of distroless images, by number.
pub const NONROOT: &str = "65532:65532";

/// The time of all files in an image: the epoch, so that builds are reproducible.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image that contains only one static binary: no shell, no package manager, and no other files to exploit.
#[derive(Debug, Clone)]
pub struct Image {
    /// `repository/name:tag`.
    pub reference: String,
    /// The binary on this machine. In the image it has the same name, at the root.
    pub binary: PathBuf,
    /// The arguments, if the pod gives none.
    pub default_arguments: Vec<String>,
}

impl Image {
    /// Writes the image as an archive, and replaces an older one atomically.
    ///
    /// # Errors
    /// When the binary cannot be read or the archive cannot be written.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let binary = fs::read(&self.binary).map_err(files::failed("read", &self.binary))?;
        let unfinished = archive.with_extension("tar.unfinished");
        let write = || -> io::Result<()> {
            let layer = self.layer(&binary)?;
            let mut file = File::create(&unfinished)?;
            self.write_archive(&layer, &mut file)
        };
        write().map_err(files::failed("write", &unfinished))?;
        fs::rename(&unfinished, archive).map_err(files::failed("write", archive))
    }

    /// Returns the path of the binary in the image.
    pub fn entrypoint(&self) -> String {
        let name = self.binary.file_name().unwrap_or_default().to_string_lossy();
        format!("/{name}")
    }

    fn layer(&self, binary: &[u8]) -> io::Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, self.entrypoint().trim_start_matches('/'), 0o755, binary)?;
        layer.into_inner()
    }

    fn write_archive(&self, layer: &[u8], archive: &mut impl Write) -> io::Result<()> {
        let config = self.config(&sha256(layer)).to_string();
        let config_name = format!("{}.json", sha256(config.as_bytes()));
        let layer_name = format!("{}/layer.tar", sha256(layer));
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [self.reference],
            "Layers": [layer_name],
        }]);
        let mut archive = tar::Builder::new(archive);
        append(&mut archive, "manifest.json", 0o644, manifest.to_string().as_bytes())?;
        append(&mut archive, &config_name, 0o644, config.as_bytes())?;
        append(&mut archive, &layer_name, 0o644, layer)?;
        archive.finish()
    }

    /// Returns the image's config, by the OCI image specification.
    fn config(&self, layer_digest: &str) -> serde_json::Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "created": CREATED,
            "config": {
                "Entrypoint": [self.entrypoint()],
                "Cmd": self.default_arguments,
                "User": NONROOT,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
            "history": [{ "created": CREATED, "created_by": "cargo xtask images" }],
        })
    }
}

/// Returns the reference in the form in which a container runtime stores it. A reference without a registry belongs to
/// docker.io, by the distribution project's grammar.
pub fn normalised(reference: &str) -> String {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            reference.to_owned()
        }
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    data: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, data)
}

/// Returns the architecture by its name in images, which is Go's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::{collections::BTreeMap, io::Read as _};

    use super::*;

    fn image(dir: &Path) -> Image {
        let binary = dir.join("agent");
        fs::write(&binary, b"\x7fELF not really").unwrap();
        Image {
            reference: "node-readiness/agent:v1".to_owned(),
            binary,
            default_arguments: vec!["pause".to_owned()],
        }
    }

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut data = Vec::new();
                entry.read_to_end(&mut data).unwrap();
                (entry.path().unwrap().display().to_string(), data)
            })
            .collect()
    }

    #[test]
    fn the_manifest_names_the_config_and_the_config_names_the_layer() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("agent.tar");
        image(dir.path()).write(&archive).unwrap();

        let files = entries(&fs::read(archive).unwrap());
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config_name = manifest[0]["Config"].as_str().unwrap();
        let config_text = &files[config_name];
        assert_eq!(config_name, format!("{}.json", sha256(config_text)));

        let config: serde_json::Value = serde_json::from_slice(config_text).unwrap();
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(layer)));
        assert_eq!(config["config"]["Entrypoint"][0], "/agent");
        assert_eq!(config["config"]["Cmd"][0], "pause");
        assert_eq!(config["config"]["User"], NONROOT);
    }

    #[test]
    fn the_layer_contains_only_the_binary() {
        let dir = tempfile::tempdir().unwrap();
        let layer = image(dir.path()).layer(b"binary").unwrap();

        let mut archive = tar::Archive::new(&*layer);
        let headers: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().header().clone()).collect();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[0].mode().unwrap(), 0o755);
        assert_eq!(headers[0].mtime().unwrap(), 0);
        assert_eq!(entries(&layer)["agent"], b"binary");
    }

    #[test]
    fn equal_binaries_give_equal_archives() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1.tar"), dir.path().join("2.tar"));
        image(dir.path()).write(&first).unwrap();
        image(dir.path()).write(&second).unwrap();
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }

    #[test]
    fn a_reference_without_a_registry_belongs_to_docker_hub() {
        assert_eq!(
            normalised("node-readiness/operator:v1"),
            "docker.io/node-readiness/operator:v1"
        );
        assert_eq!(normalised("operator:v1"), "docker.io/library/operator:v1");
        assert_eq!(
            normalised("registry.example.com/operator:v1"),
            "registry.example.com/operator:v1"
        );
        assert_eq!(normalised("localhost:5000/operator:v1"), "localhost:5000/operator:v1");
    }
}
