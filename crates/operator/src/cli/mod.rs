//! The command line: the operator's flags, and those of the Go project.

mod args;
mod go_flags;
mod go_syntax;
mod metrics;
mod reporter;
mod values;

pub use args::Args;
pub use go_flags::GoFlags;
pub use metrics::MetricsArgs;
pub use reporter::{GuardArg, ReporterArgs};
pub(crate) use values::BindAddress;
pub use values::LogFormat;
