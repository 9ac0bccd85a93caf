//! How metrics are served: the part of the command line.
#![allow(clippy::doc_markdown, reason = "these comments are the help text, which has no Markdown")]

use std::path::PathBuf;

use crate::args::{BindAddress, bind_address};
use crate::go_flags::boolean;

/// How metrics are served.
#[derive(Clone, Debug, clap::Args)]
pub struct MetricsArgs {
    /// Address that serves /metrics, as [HOST]:PORT; 0 serves none.
    #[arg(long, value_name = "ADDRESS", default_value = "0", value_parser = bind_address)]
    pub metrics_bind_address: BindAddress,

    /// Whether metrics are served over HTTPS, to whoever may get /metrics in this cluster, or over
    /// HTTP to everybody.
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "true",
        default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set)]
    pub metrics_secure: bool,

    /// Directory with tls.crt and tls.key for HTTPS, which are read again when they change. Without
    /// it the operator makes a certificate that nobody else has signed.
    #[arg(long, value_name = "DIRECTORY")]
    pub metrics_cert_dir: Option<PathBuf>,
}
