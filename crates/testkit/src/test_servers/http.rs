//! An HTTP server that can fail in many ways. It uses no HTTP library, because a library sends only valid HTTP.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time,
};

use super::behavior::Behavior;

/// The bytes that [`Behavior::Garbage`] sends. An HTTP/2 client reads them as the header of a frame that is too long.
pub(crate) const GARBAGE: &[u8] = b"\xff\xfe\xfd this is of no protocol\r\n\r\n";

/// The maximum size of a request, in bytes.
const REQUEST_LIMIT: u64 = 16 * 1024;

/// Answers one request.
pub(crate) async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, behavior: Behavior) {
    // The client may disconnect at any time.
    let _ = converse(stream, behavior).await;
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    behavior: Behavior,
) -> io::Result<()> {
    read_head(&mut stream).await?;
    match behavior {
        Behavior::Ready => stream.write_all(&reply("200 OK", "state: ready\n")).await?,
        Behavior::Failing => {
            stream.write_all(&reply("503 Service Unavailable", "state: broken\n")).await?;
        }
        Behavior::Starting => stream.write_all(&reply("200 OK", "state: starting\n")).await?,
        Behavior::Garbage => stream.write_all(GARBAGE).await?,
        Behavior::Huge => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 8 * 1024]).await?;
            }
        }
        Behavior::Slow => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
            for _ in 0..1000 {
                stream.write_all(b"x").await?;
                time::sleep(Duration::from_secs(1)).await;
            }
        }
        Behavior::Hanging | Behavior::Plain | Behavior::Gone => await_hang_up(&mut stream).await,
    }
    stream.shutdown().await
}

/// Returns a complete answer.
pub(crate) fn reply(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// Waits until the client disconnects.
pub(crate) async fn await_hang_up(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// Reads a request without a body.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut stream = stream.take(REQUEST_LIMIT);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    async fn answered(behavior: Behavior) -> String {
        let (mut client, server) = tokio::io::duplex(1024);
        let asked = async {
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::join!(asked, answer(server, behavior)).0
    }

    #[tokio::test]
    async fn each_behavior_has_its_answer() {
        let ready = answered(Behavior::Ready).await;
        assert!(ready.starts_with("HTTP/1.1 200 OK\r\n"), "{ready}");
        assert!(ready.ends_with("\r\n\r\nstate: ready\n"), "{ready}");
        assert!(answered(Behavior::Failing).await.starts_with("HTTP/1.1 503 "));
        assert!(!answered(Behavior::Garbage).await.starts_with("HTTP"));
    }
}
