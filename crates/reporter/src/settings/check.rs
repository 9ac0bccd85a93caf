//! Converts a rule's probe to a check, and validates each field.

use std::{net::IpAddr, path::Path, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use node_readiness_api::{
    ExecAction, FileAction, GrpcAction, Handler, HttpGetAction, HttpHeader, NODE_ADDRESS_ENV,
    ProbeAddress, Scheme, TcpSocketAction, UnixSocketAction, is_host,
};
use reqwest::Url;

use crate::probe::{
    BodyPattern, Check, ExecCheck, FileCheck, FilePattern, GrpcCheck, HostPath, HttpCheck,
    LOCALHOST, ReasonStyle, TcpCheck, UnixCheck, authority,
};

/// An invalid field. The caller adds its path.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) field: String,
    pub(super) problem: String,
}

impl Problem {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// What a pod knows of its node.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The directory of the node's root.
    pub root: &'a Path,
    /// The node's address, if the pod has it.
    pub address: Option<IpAddr>,
}

/// Converts a handler.
pub(super) fn check(handler: &Handler, host: Host<'_>) -> Result<Check, Problem> {
    Ok(match handler {
        Handler::HttpGet(action) => Check::Http(http(action, host)?),
        Handler::TcpSocket(action) => Check::Tcp(tcp(action, host)?),
        Handler::Grpc(action) => Check::Grpc(grpc(action, host)?),
        Handler::Exec(action) => Check::Exec(exec(action)?),
        Handler::UnixSocket(action) => Check::Unix(unix(action, host.root)?),
        Handler::File(action) => Check::File(file(action, host.root)?),
    })
}

fn http(action: &HttpGetAction, host: Host<'_>) -> Result<HttpCheck, Problem> {
    let scheme = match action.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let port = port(action.port, "httpGet.port")?;
    let host = match &action.host {
        Some(other) => named_host(other, "httpGet.host")?.to_owned(),
        None => host.at(action.address, "httpGet.address")?,
    };
    let url = Some(&action.path)
        .filter(|path| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()))
        .and_then(|path| Url::parse(&format!("{scheme}://{}{path}", authority(&host, port))).ok())
        .ok_or_else(|| {
            Problem::new(
                "httpGet.path",
                format!(
                    "{:?} is not a path: start it with / and use printable ASCII without spaces",
                    action.path
                ),
            )
        })?;
    let body = match action.body_matches.as_deref().map(BodyPattern::new) {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(why)) => {
            let problem =
                format!("is not a regular expression ({why}): use the syntax of Rust's regex-lite");
            return Err(Problem::new("httpGet.bodyMatches", problem));
        }
    };
    let headers = headers(&action.http_headers)?;
    Ok(HttpCheck { url, headers, body, reason_style: ReasonStyle::PodProbe })
}

fn headers(list: &[HttpHeader]) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for (index, header) in list.iter().enumerate() {
        let (Ok(name), Ok(value)) =
            (header.name.parse::<HeaderName>(), header.value.parse::<HeaderValue>())
        else {
            return Err(Problem::new(
                format!("httpGet.httpHeaders[{index}]"),
                format!(
                    "{:?} is not a header: use a token as its name and printable ASCII as its value",
                    header.name
                ),
            ));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn tcp(action: &TcpSocketAction, host: Host<'_>) -> Result<TcpCheck, Problem> {
    let host = match &action.host {
        Some(other) => named_host(other, "tcpSocket.host")?.to_owned(),
        None => host.at(action.address, "tcpSocket.address")?,
    };
    Ok(TcpCheck { host, port: port(action.port, "tcpSocket.port")? })
}

fn grpc(action: &GrpcAction, host: Host<'_>) -> Result<GrpcCheck, Problem> {
    let port = port(action.port, "grpc.port")?;
    let host = host.at(action.address, "grpc.address")?;
    Ok(GrpcCheck { host, port, service: action.service.clone() })
}

fn exec(action: &ExecAction) -> Result<ExecCheck, Problem> {
    let problem = |problem| Err(Problem::new("exec.command", problem));
    let Some((program, arguments)) = action.command.split_first() else {
        return problem("is empty: name a program");
    };
    if program.is_empty() {
        return problem("begins with an empty text: name a program");
    }
    if action.command.iter().any(|text| text.contains('\0')) {
        return problem("has a NUL character, which no argument can have: remove it");
    }
    Ok(ExecCheck { program: program.clone(), arguments: arguments.to_vec() })
}

fn unix(action: &UnixSocketAction, host_root: &Path) -> Result<UnixCheck, Problem> {
    Ok(UnixCheck { root: host_root.into(), path: host_path(&action.path, "unixSocket.path")? })
}

fn file(action: &FileAction, host_root: &Path) -> Result<FileCheck, Problem> {
    let path = host_path(&action.path, "file.path")?;
    let path = FilePattern::new(path).map_err(|why| {
        let problem = format!("{:?} is not a pattern ({why}): mend it", action.path);
        Problem::new("file.path", problem)
    })?;
    let max_age = match action.max_age_seconds {
        None => None,
        Some(seconds) => {
            Some(Duration::from_secs(at_least_one(seconds, "file.maxAgeSeconds")?.into()))
        }
    };
    Ok(FileCheck { root: host_root.into(), path, max_age, since_boot: action.since_boot })
}

fn host_path(path: &str, field: &str) -> Result<HostPath, Problem> {
    HostPath::new(path).ok_or_else(|| {
        Problem::new(
            field,
            format!("{path:?} is not an absolute path without empty, '.' or '..' parts: use one"),
        )
    })
}

fn port(port: u16, field: &str) -> Result<u16, Problem> {
    if port == 0 {
        return Err(Problem::new(field, "is 0: set a port from 1 to 65535"));
    }
    Ok(port)
}

impl Host<'_> {
    /// Returns the host for an address of the node.
    fn at(self, address: ProbeAddress, field: &str) -> Result<String, Problem> {
        match (address, self.address) {
            (ProbeAddress::Localhost, _) => Ok(LOCALHOST.to_owned()),
            (ProbeAddress::Node, Some(address)) => Ok(address.to_string()),
            (ProbeAddress::Node, None) => {
                let problem = format!(
                    "is Node, and {NODE_ADDRESS_ENV} is not set: let the pod set it from the field \
                     status.hostIP (env, valueFrom, fieldRef)"
                );
                Err(Problem::new(field, problem))
            }
        }
    }
}

/// A name or an address. Nothing else may be part of a URL or a condition's message.
fn named_host<'a>(host: &'a str, field: &str) -> Result<&'a str, Problem> {
    if is_host(host) {
        return Ok(host);
    }
    let problem = format!("{host:?} is not a host name or an IP address: use one, without a port");
    Err(Problem::new(field, problem))
}

pub(super) fn at_least_one(value: u32, field: &str) -> Result<u32, Problem> {
    if value == 0 {
        return Err(Problem::new(field, "is 0: set it to 1 or more"));
    }
    Ok(value)
}
