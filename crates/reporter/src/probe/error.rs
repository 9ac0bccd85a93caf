//! Why a probe failed, in stable words.
//!
//! Errors of libraries have addresses, ephemeral ports and durations, which would make the same failure a
//! different message each time. Here an error is reduced to one of a few causes.

use std::{error::Error, io, time::Duration};

/// Why a probe failed. Its `Display` is part of the condition's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProbeError {
    /// What was missing, and the timeout.
    #[error("{0} within {1:?}")]
    TimedOut(&'static str, Duration),
    #[error("connection refused")]
    ConnectionRefused,
    #[error("connection closed before a complete answer")]
    ConnectionClosed,
    #[error("connection failed")]
    ConnectionFailed,
    #[error("host or network unreachable")]
    Unreachable,
    #[error("host name not resolved")]
    NameNotResolved,
    #[error("TLS certificate not accepted")]
    Certificate,
    #[error("TLS handshake failed")]
    Tls,
    #[error("refused by a server that asks for a client certificate, which a probe does not have")]
    ClientCertificate,
    #[error("not a valid HTTP answer")]
    NotHttp,
    #[error("too many redirects")]
    TooManyRedirects,
    #[error("status {0}")]
    Status(u16),
    #[error("the body does not match")]
    Body,
    #[error("not a valid gRPC answer")]
    NotGrpc,
    #[error("the server has no health service")]
    NoHealthService,
    #[error("the server does not know the service")]
    UnknownService,
    #[error("{0}")]
    NotServing(&'static str),
    #[error("gRPC status {0}")]
    GrpcStatus(u8),
    #[error("no such file")]
    NoSuchFile,
    #[error("not modified within the last {0:?}")]
    TooOld(Duration),
    #[error("not modified since the node was booted")]
    BeforeBoot,
    #[error("more than {0} names to look at; use a narrower pattern")]
    TooManyNames(u32),
    #[error("not a socket")]
    NotASocket,
    #[error("permission denied")]
    PermissionDenied,
    #[error("cannot be read")]
    Unreadable,
    #[error("no such program")]
    NoSuchProgram,
    #[error("not an executable program")]
    NotExecutable,
    #[error("could not be started")]
    NotStarted,
    #[error("exit status {0}")]
    Exit(i32),
    #[error("ended by a signal")]
    Signal,
    #[error("request could not be made")]
    Request,
    #[error("request failed")]
    Other,
}

impl ProbeError {
    /// Why a file or directory cannot be read.
    pub(super) fn of_file(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoSuchFile,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Unreadable,
        }
    }
}

/// Why a connection failed or broke.
impl From<&io::Error> for ProbeError {
    fn from(error: &io::Error) -> Self {
        chain(error).find_map(known).unwrap_or(Self::ConnectionFailed)
    }
}

impl From<&reqwest::Error> for ProbeError {
    fn from(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::Request;
        }
        if error.is_redirect() {
            return Self::TooManyRedirects;
        }
        if error.is_dns() {
            return Self::NameNotResolved;
        }
        chain(error).find_map(known).unwrap_or(Self::Other)
    }
}

/// Returns whether the other side closed the connection between two messages of the layer below HTTP.
pub(super) fn is_unexpected_end(error: &reqwest::Error) -> bool {
    chain(error)
        .filter_map(<dyn Error>::downcast_ref::<io::Error>)
        .any(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

/// Returns an error and its causes. The error inside an `io::Error` is not among its sources, so it is added.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

fn known(error: &(dyn Error + 'static)) -> Option<ProbeError> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) => ProbeError::Certificate,
            _ => ProbeError::Tls,
        });
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return from_io(error);
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_incomplete_message() || error.is_canceled() {
        Some(ProbeError::ConnectionClosed)
    } else if error.is_parse() {
        Some(ProbeError::NotHttp)
    } else {
        // The cause is further down.
        None
    }
}

fn from_io(error: &io::Error) -> Option<ProbeError> {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => Some(ProbeError::NoSuchFile),
        ErrorKind::PermissionDenied => Some(ProbeError::PermissionDenied),
        ErrorKind::ConnectionRefused => Some(ProbeError::ConnectionRefused),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Some(ProbeError::ConnectionClosed),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
            Some(ProbeError::Unreachable)
        }
        // The cause may be the inner error, such as a TLS error.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_inside_an_io_error() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = io::Error::new(io::ErrorKind::InvalidData, tls);
        assert_eq!(chain(&error).find_map(known), Some(ProbeError::Certificate));
        let outer = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(chain(&outer).find_map(known), Some(ProbeError::ConnectionRefused));
    }

    #[test]
    fn an_unreadable_file_differs_from_a_missing_one() {
        // Tests may run as root, to whom nothing is refused, so there is no test with real files.
        let of = |kind| ProbeError::of_file(&io::Error::from(kind)).to_string();
        assert_eq!(of(io::ErrorKind::NotFound), "no such file");
        assert_eq!(of(io::ErrorKind::PermissionDenied), "permission denied");
        assert_eq!(of(io::ErrorKind::StaleNetworkFileHandle), "cannot be read");
    }

    #[test]
    fn an_unknown_cause_is_not_guessed() {
        let error = io::Error::other("port 41234 is haunted");
        assert_eq!(chain(&error).find_map(known), None);
    }
}
