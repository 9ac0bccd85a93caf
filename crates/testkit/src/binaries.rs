//! The programs of the cluster. They are built from `hack/cluster` and cached outside the checkout under a hash of
//! their inputs. A build uses a temporary directory and is moved into place when it is complete, so the cache has no
//! partial builds.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    command,
    digest::sha256,
    error::{Error, Result},
    files,
};

/// The Go module's files that determine the build, in the order of the hash.
const INPUTS: [&str; 4] = ["go.mod", "go.sum", "etcd/main.go", "kubernetes/main.go"];

/// The packages to build. `etcd` is first because it is quick and shows problems of the toolchain.
const PACKAGES: [&str; 2] = ["etcd", "kubernetes"];

/// The names of the single Kubernetes binary.
const KUBERNETES_NAMES: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];

/// The start of a directory's extension until its build is complete.
const UNFINISHED: &str = "unfinished-";

/// The interval of progress lines during a long build.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The built programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Returns the programs from the cache, and builds them if necessary.
    ///
    /// # Errors
    ///
    /// When there is no Go toolchain, or the build fails.
    pub fn ensure(progress: &dyn Fn(&str)) -> Result<Self> {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/cluster");
        let recipe = Recipe::read(&module)?;
        let cache = cache_dir();
        files::create_dir(&cache)?;
        let dir = cache.join(format!("cluster-{}", recipe.key()));
        if !dir.is_dir() {
            // Two test processes must not build the same programs at once.
            let _lock = files::lock(&cache)?;
            if !dir.is_dir() {
                recipe.build(&module, &dir, progress)?;
            }
        }
        Ok(Self { dir })
    }

    /// Links the programs under their names into `bin`.
    pub(crate) fn link_into(&self, bin: &Path) -> Result<()> {
        files::create_dir(bin)?;
        let links = KUBERNETES_NAMES.map(|name| (name, "kubernetes"));
        for (name, target) in links.into_iter().chain([("etcd", "etcd")]) {
            let link = bin.join(name);
            files::remove(&link)?;
            std::os::unix::fs::symlink(self.dir.join(target), &link)
                .map_err(files::failed("create", &link))?;
        }
        Ok(())
    }
}

/// The inputs of a build.
struct Recipe {
    inputs: Vec<(&'static str, String)>,
    ldflags: String,
    go_version: String,
}

impl Recipe {
    fn read(module: &Path) -> Result<Self> {
        let inputs = INPUTS
            .iter()
            .map(|name| Ok((*name, files::read(&module.join(name))?)))
            .collect::<Result<Vec<_>>>()?;
        let version = kubernetes_version(&inputs[0].1).ok_or_else(|| Error::Unexpected {
            path: module.join("go.mod"),
            reason: "it does not require k8s.io/kubernetes v1.x".to_owned(),
        })?;
        let go_version = match command::run(Command::new("go").arg("version").current_dir(module)) {
            Err(Error::Start { .. }) => return Err(Error::NoGo),
            other => other?,
        };
        Ok(Self { inputs, ldflags: ldflags(&version), go_version })
    }

    /// Returns a hash of the inputs, short enough for a path and long enough to be unique.
    fn key(&self) -> String {
        let settings = [("ldflags", &self.ldflags), ("go version", &self.go_version)];
        let inputs = self.inputs.iter().map(|(name, text)| (*name, text)).chain(settings);
        // Lengths make the concatenation unambiguous.
        let all: Vec<_> =
            inputs.map(|(name, text)| format!("{name} {}\n{text}", text.len())).collect();
        sha256(all.concat())[..16].to_owned()
    }

    fn build(&self, module: &Path, target: &Path, progress: &dyn Fn(&str)) -> Result<()> {
        let unfinished = target.with_extension(format!("{UNFINISHED}{}", std::process::id()));
        remove_unfinished(target)?;
        files::create_dir(&unfinished)?;
        let log = target.with_extension("log");
        progress(&format!(
            "building Kubernetes and etcd from source, once; this takes about 7 minutes on two cores, and 3 GB in Go's caches (log: {})",
            log.display()
        ));
        for package in PACKAGES {
            self.build_package(module, package, &unfinished, &log, progress)?;
        }
        fs::rename(&unfinished, target).map_err(files::failed("create", target))
    }

    fn build_package(
        &self,
        module: &Path,
        package: &str,
        target: &Path,
        log: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<()> {
        let output = File::create(log).map_err(files::failed("create", log))?;
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-ldflags", &self.ldflags, "-o"])
            .arg(target.join(package))
            .arg(format!("./{package}"))
            .current_dir(module)
            .stderr(output);
        let start = Instant::now();
        let mut next_word = HEARTBEAT;
        let mut child =
            go.spawn().map_err(|cause| Error::Start { program: "go".to_owned(), cause })?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => thread::sleep(Duration::from_millis(200)),
                Err(cause) => return Err(Error::Start { program: "go".to_owned(), cause }),
            }
            if start.elapsed() >= next_word {
                next_word += HEARTBEAT;
                progress(&format!("building {package}: {} s so far", start.elapsed().as_secs()));
            }
        };
        if !status.success() {
            return Err(Error::Command {
                command: command::describe(&go),
                status: status.to_string(),
                stderr: fs::read_to_string(log).unwrap_or_default(),
            });
        }
        progress(&format!("built {package} in {} s", start.elapsed().as_secs()));
        Ok(())
    }
}

/// Removes the directories of killed builds of the same target. A compiler that still runs then fails, because its
/// directory is gone, and does not write into the new directory.
fn remove_unfinished(target: &Path) -> Result<()> {
    let stem = target.with_extension(UNFINISHED);
    let siblings = target.parent().and_then(|cache| fs::read_dir(cache).ok());
    for sibling in siblings.into_iter().flatten().flatten().map(|entry| entry.path()) {
        if sibling.as_os_str().as_encoded_bytes().starts_with(stem.as_os_str().as_encoded_bytes()) {
            files::remove(&sibling)?;
        }
    }
    Ok(())
}

/// Returns the version that go.mod requires, such as `v1.37.2`.
fn kubernetes_version(go_mod: &str) -> Option<String> {
    go_mod.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["k8s.io/kubernetes", version] if version.starts_with("v1.") => Some(version.to_owned()),
        _ => None,
    })
}

/// Returns the linker flags: no debug information, and the version, as in Kubernetes' own build. Without it the version
/// is `v0.0.0-master`, and clients fail.
fn ldflags(version: &str) -> String {
    let package = "k8s.io/component-base/version";
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    )
}

/// Returns `$XDG_CACHE_HOME` or `~/.cache`. By the XDG base directory specification a relative path is ignored.
fn cache_dir() -> PathBuf {
    let absolute =
        |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("node-readiness")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    const GO_MOD: &str =
        "module x\n\nrequire (\n\tk8s.io/kubectl v0.0.0\n\tk8s.io/kubernetes v1.37.2\n)\n";

    fn recipe() -> Recipe {
        Recipe {
            inputs: vec![("go.mod", GO_MOD.to_owned()), ("go.sum", "a\n".to_owned())],
            ldflags: ldflags("v1.37.2"),
            go_version: "go1.26".to_owned(),
        }
    }

    #[test]
    fn the_version_comes_from_go_mod_and_not_from_a_replaced_module() {
        assert_eq!(kubernetes_version(GO_MOD).as_deref(), Some("v1.37.2"));
        let replaced = "replace k8s.io/kubernetes v1.37.2 => ../kubernetes\n";
        assert_eq!(kubernetes_version(replaced), None);
    }

    #[test]
    fn the_linker_sets_major_and_minor() {
        let flags = ldflags("v1.37.2");
        assert!(flags.ends_with(
            "version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
        ), "{flags}");
    }

    #[test]
    fn only_unfinished_builds_of_the_same_target_are_removed() {
        let cache = tempfile::tempdir().unwrap();
        let names =
            ["cluster-a", "cluster-a.log", "cluster-a.unfinished-7", "cluster-b.unfinished-7"];
        for name in names {
            fs::create_dir(cache.path().join(name)).unwrap();
        }
        remove_unfinished(&cache.path().join("cluster-a")).unwrap();
        let left = names.map(|name| cache.path().join(name).exists());
        assert_eq!(left, [true, true, false, true]);
    }

    #[test]
    fn each_input_of_the_build_changes_its_key() {
        let key = recipe().key();
        assert_eq!(key, recipe().key());

        let mut other_sum = recipe();
        other_sum.inputs[1].1.push('b');
        let mut other_flags = recipe();
        other_flags.ldflags.push_str(" -X a=b");
        let mut other_go = recipe();
        other_go.go_version = "go1.27".to_owned();
        // The same text is on the other side of a boundary between two files.
        let mut moved = recipe();
        moved.inputs[0].1.push('a');
        moved.inputs[1].1 = "\n".to_owned();

        for (what, changed) in
            [("sum", other_sum), ("flags", other_flags), ("go", other_go), ("moved", moved)]
        {
            assert_ne!(key, changed.key(), "{what}");
        }
    }
}
