//! HTTP requests from this machine to a node, like those of a scraper or of `curl`.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The timeout of a request. It is short, because nodes are on this machine.
const LIMIT: Duration = Duration::from_secs(5);

/// Sends a request without a body, and returns the answer's body if its status is 200.
pub fn request(address: &str, method: &str, path: &str) -> io::Result<String> {
    let to: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{method} {path}: {answer}"))),
    }
}
