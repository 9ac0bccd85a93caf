//! The flags for reporters and for the permissions of rules.
#![allow(clippy::doc_markdown, reason = "these comments are the help text, which has no Markdown")]

use clap::{ArgAction, ValueEnum};
use node_readiness_engine::admission::Strength;
use node_readiness_engine::reporter::{Allowances, Settings};

use super::go_syntax::boolean;

/// The flags for reporters and for the permissions of rules.
#[derive(Clone, Debug, clap::Args)]
pub struct ReporterArgs {
    /// Image of reporters.
    #[arg(long, value_name = "IMAGE", env = "REPORTER_IMAGE")]
    pub reporter_image: String,

    /// Namespace of reporters.
    #[arg(long, value_name = "NAMESPACE", default_value = "nrr-reporters")]
    pub reporters_namespace: String,

    /// How strictly admission policies limit writes made as a node. records: no node may change the
    /// operator's annotations. strict: in addition, reporters may change only the conditions that rules probe;
    /// this needs Kubernetes 1.32 and kubelets that authenticate with client certificates.
    #[arg(long, value_enum, default_value_t = GuardArg::Records)]
    pub guard: GuardArg,

    /// Permit rules to run programs on nodes, in the reporter's container.
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "false",
        default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub allow_exec_probes: bool,

    /// Permit rules to run reporters as root, without capabilities.
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "false",
        default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub allow_root_reporters: bool,

    /// Permit rules to run reporters in images that match this pattern; * matches any text. May be repeated.
    #[arg(long, value_name = "PATTERN", value_parser = glob::Pattern::new, value_delimiter = ',')]
    pub allow_reporter_image: Vec<glob::Pattern>,

    /// Permit rules to probe hosts that match this pattern, besides localhost; * matches any text. May be
    /// repeated.
    #[arg(long, value_name = "PATTERN", value_parser = glob::Pattern::new, value_delimiter = ',')]
    pub allow_probe_host: Vec<glob::Pattern>,

    /// Permit rules to look for files in this directory of nodes and below it. May be repeated.
    #[arg(long, value_name = "DIRECTORY", value_parser = absolute, value_delimiter = ',')]
    pub allow_host_path: Vec<String>,
}

/// How strict the guard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GuardArg {
    /// Nodes may not change the operator's annotations.
    Records,
    /// In addition, reporters may change only the conditions that rules probe.
    Strict,
}

impl ReporterArgs {
    /// Returns the settings of reporters.
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: self.reporters_namespace.clone(),
            image: self.reporter_image.clone(),
            allowances: Allowances {
                exec: self.allow_exec_probes,
                root: self.allow_root_reporters,
                images: self.allow_reporter_image.clone(),
                hosts: self.allow_probe_host.clone(),
                host_paths: self.allow_host_path.clone(),
            },
        }
    }

    /// Returns how strict the guard is.
    pub(crate) fn strength(&self) -> Strength {
        match self.guard {
            GuardArg::Records => Strength::Records,
            GuardArg::Strict => Strength::Strict,
        }
    }
}

fn absolute(directory: &str) -> Result<String, String> {
    let parts = directory.strip_prefix('/').map(|rest| rest.trim_end_matches('/').split('/'));
    let plain = parts.is_some_and(|mut parts| {
        directory.trim_matches('/').is_empty() || parts.all(|part| !["", ".", ".."].contains(&part))
    });
    if plain {
        Ok(directory.to_owned())
    } else {
        Err("must be an absolute path without empty, '.' or '..' parts, such as /run/nvidia"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Args;

    fn reporter(flags: &[&str]) -> Result<ReporterArgs, clap::Error> {
        let line = ["operator", "--reporter-image=i"].iter().chain(flags).map(Into::into);
        Args::from_go(line).map(|args| args.reporter)
    }

    #[test]
    fn nothing_is_allowed_by_default_and_only_records_are_guarded() {
        let args = reporter(&[]).unwrap();
        assert_eq!(args.settings().allowances, Allowances::default());
        assert_eq!(args.strength(), Strength::Records);
    }

    #[test]
    fn allowances_may_be_repeated() {
        let args = reporter(&[
            "--allow-exec-probes",
            "--allow-root-reporters=true",
            "--allow-reporter-image=example.com/*",
            "--allow-reporter-image=other:1",
            "--allow-probe-host=*.internal,10.0.0.1",
            "--allow-host-path=/run",
            "-allow-host-path",
            "/var/lib/kubelet/",
            "--guard=strict",
        ])
        .unwrap();
        let Allowances { exec, root, images, hosts, host_paths } = args.settings().allowances;
        assert!(exec && root);
        assert!(images[0].matches("example.com/a/b:1") && images[1].matches("other:1"));
        assert!(hosts[0].matches("a.internal") && hosts[1].matches("10.0.0.1"));
        assert_eq!(host_paths, ["/run", "/var/lib/kubelet/"]);
        assert_eq!(args.strength(), Strength::Strict);
    }

    #[test]
    fn a_directory_is_absolute_and_plain() {
        for good in ["/", "/run", "/var/lib/"] {
            assert_eq!(absolute(good).unwrap(), good);
        }
        for bad in ["", "run", "/run/../etc", "/run//x", "/./x"] {
            assert!(absolute(bad).unwrap_err().contains("/run/nvidia"), "{bad}");
        }
    }
}
