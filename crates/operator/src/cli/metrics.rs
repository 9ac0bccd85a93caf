//! The flags for metrics.
#![allow(clippy::doc_markdown, reason = "these comments are the help text, which has no Markdown")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::go_syntax::boolean;
use super::values::{BindAddress, bind_address};

/// The flags for metrics.
#[derive(Clone, Debug, clap::Args)]
pub struct MetricsArgs {
    /// Address that serves /metrics, as [HOST]:PORT; 0 disables metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0", value_parser = bind_address)]
    pub metrics_bind_address: BindAddress,

    /// Serve metrics over HTTPS to users who may get /metrics in this cluster, instead of over HTTP to
    /// everybody.
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "true",
        default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set)]
    pub metrics_secure: bool,

    /// Directory with tls.crt and tls.key for HTTPS, which the operator reloads when they change. By default it
    /// generates a self-signed certificate.
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pub metrics_cert_dir: Option<Directory>,
}

/// A directory, if one is set.
pub type Directory = Option<PathBuf>;

/// Parses a directory like Go programs do: an empty value sets none.
#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn directory(text: &str) -> Result<Directory, Infallible> {
    Ok((!text.is_empty()).then(|| text.into()))
}

impl MetricsArgs {
    /// Returns the directory of the certificate, if there is one.
    pub(crate) fn certificate_directory(&self) -> Option<&Path> {
        self.metrics_cert_dir.as_ref()?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Args;

    fn metrics(flags: &[&str]) -> MetricsArgs {
        let line = ["operator", "--reporter-image=i"].iter().chain(flags).map(Into::into);
        Args::from_go(line).unwrap().metrics
    }

    #[test]
    fn metrics_are_off_by_default_and_secure_if_enabled() {
        let none = metrics(&[]);
        assert!(none.metrics_bind_address.is_none() && none.metrics_secure);
        assert!(none.certificate_directory().is_none());
    }

    #[test]
    fn each_form_of_a_flag_is_read() {
        assert!(metrics(&["-metrics-secure"]).metrics_secure);
        assert!(!metrics(&["--metrics-secure=false"]).metrics_secure);
        let address = metrics(&["-metrics-bind-address", ":8080"]).metrics_bind_address;
        assert_eq!(address.unwrap().port(), 8080);
    }

    #[test]
    fn an_empty_directory_counts_as_none() {
        assert!(metrics(&["--metrics-cert-dir="]).certificate_directory().is_none());
        let given = metrics(&["-metrics-cert-dir", "/certs"]);
        assert_eq!(given.certificate_directory(), Some(Path::new("/certs")));
    }
}
