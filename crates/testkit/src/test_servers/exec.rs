//! The program of an exec probe. It reads its behavior from the test servers' control port, so a test can change its
//! result without changing the probe's command.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

/// The program's command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The test servers' control port.
    #[arg(long, default_value = "127.0.0.1:9180")]
    control: SocketAddr,
}

/// Reads the behavior, follows it, and returns the exit status.
pub(crate) fn run(options: &Options) -> io::Result<u8> {
    let mut stream = TcpStream::connect(options.control)?;
    stream.write_all(b"GET /exec HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.rsplit_once("\r\n\r\n").map(|(_, behavior)| behavior) {
        Some("ready") => Ok(0),
        Some("failing") => Ok(3),
        Some("hanging") => loop {
            thread::sleep(Duration::from_secs(1));
        },
        Some("huge") => loop {
            io::stdout().write_all(&[b'x'; 8 * 1024])?;
        },
        _ => Err(io::Error::other(format!("the control port answered {answer:?}"))),
    }
}
