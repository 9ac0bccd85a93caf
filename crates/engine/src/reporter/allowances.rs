//! The limits of what rules may ask of reporters.
//!
//! Rule authors do not need administrator rights on nodes. So a rule alone cannot run programs on nodes, connect
//! to other hosts or look for files: each of these needs a flag of the operator.

use node_readiness_api::{
    BODY_PATTERN_MEMORY, FileAction, Handler, HttpGetAction, NodeReadinessRule, Probe,
    ReporterAccess, TcpSocketAction, UnixSocketAction, host_path, is_host, single_stars,
};

/// What the operator's flags allow. The default allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    /// `--allow-exec-probes`: probes that run a program in the reporter's container.
    pub exec: bool,
    /// `--allow-root-reporters`: reporters that run as root, which can read files that only root can read.
    pub root: bool,
    /// `--allow-reporter-image`: images other than the operator's own, as patterns in which `*` matches any
    /// text.
    pub images: Vec<glob::Pattern>,
    /// `--allow-probe-host`: hosts to probe other than localhost, as such patterns.
    pub hosts: Vec<glob::Pattern>,
    /// `--allow-host-path`: directories of the node that probes may access, with everything below them.
    pub host_paths: Vec<String>,
}

/// Whether the API server supports constrained impersonation (KEP-5284).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConstrainedImpersonation {
    /// Not detected yet.
    #[default]
    Unknown,
    /// Supported.
    Works,
    /// Not supported.
    Missing,
}

/// Why a rule with probes has no reporters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `CamelCase`, for the status.
    pub reason: &'static str,
    /// The refused value, its field and the remedy.
    pub message: String,
}

/// Checks whether a rule asks for no more than is allowed.
///
/// # Errors
///
/// The first check that the rule does not pass.
pub fn admit(
    rule: &NodeReadinessRule,
    allowances: &Allowances,
    impersonation: ConstrainedImpersonation,
) -> Result<(), Refusal> {
    let options = rule.spec.reporter.clone().unwrap_or_default();
    if rule.spec.probes.is_empty() {
        return Ok(());
    }
    // The API server must support the rule's access.
    if options.access == ReporterAccess::ConstrainedImpersonation
        && impersonation == ConstrainedImpersonation::Missing
    {
        return Err(Refusal {
            reason: "ConstrainedImpersonationMissing",
            message: "the API server does not support constrained impersonation (KEP-5284): enable its feature gate \
                      ConstrainedImpersonation (Kubernetes 1.35; later versions enable it), or set spec.reporter.access to \
                      AdmissionPolicy"
                .to_owned(),
        });
    }
    // The image must be the operator's own, or an allowed one.
    if let Some(image) = &options.image
        && !allowances.images.iter().any(|allowed| allowed.matches(image))
    {
        return Err(not_allowed("spec.reporter.image", image, "--allow-reporter-image"));
    }
    // Root must be allowed.
    if options.run_as_user == Some(0) && !allowances.root {
        return Err(not_allowed("spec.reporter.runAsUser", "0", "--allow-root-reporters"));
    }
    rule.spec.probes.iter().try_for_each(|probe| admit_probe(probe, allowances))
}

fn admit_probe(probe: &Probe, allowances: &Allowances) -> Result<(), Refusal> {
    let field = |name: &str| format!("spec.probes[{}].{name}", probe.condition_type);
    match &probe.handler {
        Handler::HttpGet(HttpGetAction { host, body_matches, .. }) => {
            admit_host(host.as_deref(), || field("httpGet.host"), allowances)?;
            let pattern = body_matches.as_deref().unwrap_or_default();
            regex_lite::RegexBuilder::new(pattern)
                .size_limit(BODY_PATTERN_MEMORY)
                .build()
                .map_err(|error| no_pattern(&field("httpGet.bodyMatches"), pattern, &error))?;
        }
        Handler::TcpSocket(TcpSocketAction { host, .. }) => {
            admit_host(host.as_deref(), || field("tcpSocket.host"), allowances)?;
        }
        Handler::Grpc(_) => {}
        Handler::Exec(_) => {
            if !allowances.exec {
                return Err(not_allowed(&field("exec"), "a command", "--allow-exec-probes"));
            }
        }
        Handler::UnixSocket(UnixSocketAction { path }) => {
            admit_path(path, || field("unixSocket.path"), allowances)?;
        }
        Handler::File(FileAction { path, .. }) => {
            path.split('/')
                .try_for_each(|part| glob::Pattern::new(&single_stars(part)).map(drop))
                .map_err(|error| no_pattern(&field("file.path"), path, &error))?;
            admit_path(path, || field("file.path"), allowances)?;
        }
    }
    Ok(())
}

fn admit_host(
    host: Option<&str>,
    field: impl Fn() -> String,
    allowances: &Allowances,
) -> Result<(), Refusal> {
    let host = host.unwrap_or("localhost");
    if !is_host(host) {
        return Err(invalid(&field(), host, "neither a host name nor an IP address"));
    }
    if host == "localhost" || allowances.hosts.iter().any(|allowed| allowed.matches(host)) {
        return Ok(());
    }
    Err(not_allowed(&field(), host, "--allow-probe-host"))
}

fn admit_path(
    path: &str,
    field: impl Fn() -> String,
    allowances: &Allowances,
) -> Result<(), Refusal> {
    let directory = host_path::directory(path);
    let allowed = |prefix: &String| host_path::is_below(directory, prefix);
    if allowances.host_paths.iter().any(allowed) {
        return Ok(());
    }
    Err(not_allowed(&field(), path, "--allow-host-path"))
}

fn not_allowed(field: &str, value: &str, flag: &str) -> Refusal {
    Refusal {
        reason: "NotAllowed",
        message: format!(
            "{field} is {value}, which this operator does not allow: start it with {flag}, or change the rule"
        ),
    }
}

fn no_pattern(field: &str, value: &str, error: &dyn std::error::Error) -> Refusal {
    invalid(field, value, &format!("not a valid pattern ({error})"))
}

fn invalid(field: &str, value: &str, what_it_is: &str) -> Refusal {
    Refusal {
        reason: "Invalid",
        message: format!("{field} is {value:?}, which is {what_it_is}: correct it"),
    }
}
