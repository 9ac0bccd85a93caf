//! A small node agent, like that of a CNI plugin. Its readiness endpoint answers 503 for a while after the start, and
//! then 200.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::get};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// The agent's command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0:9099")]
    listen: SocketAddr,
    /// The time from its start until it is ready, such as 5s or 500ms.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    ready_after: Duration,
    /// The path of the readiness endpoint.
    #[arg(long, default_value = "/readiness")]
    path: String,
}

/// Serves until SIGTERM.
pub(crate) async fn run(options: Options) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(options.listen).await?;
    println!("listening on {}, ready in {:?}", options.listen, options.ready_after);
    axum::serve(listener, router(&options.path, Instant::now() + options.ready_after))
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await
}

fn router(path: &str, ready_at: Instant) -> Router {
    let answer = move || async move { readiness(ready_at, Instant::now()) };
    Router::new().route(path, get(answer))
}

fn readiness(ready_at: Instant, now: Instant) -> (StatusCode, &'static str) {
    if now < ready_at {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// Parses a whole number of `s` or `ms`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text} is not a duration such as 5s or 500ms");
    let number = |digits: &str| digits.parse().map_err(|_| refused());
    if let Some(digits) = text.strip_suffix("ms") {
        Ok(Duration::from_millis(number(digits)?))
    } else if let Some(digits) = text.strip_suffix('s') {
        Ok(Duration::from_secs(number(digits)?))
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_ready_after_its_delay() {
        let start = Instant::now();
        let ready_at = start + Duration::from_secs(5);
        assert_eq!(readiness(ready_at, start).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(readiness(ready_at, ready_at).0, StatusCode::OK);
    }

    #[test]
    fn durations_are_seconds_or_milliseconds() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("5").is_err_and(|message| message.contains("5s or 500ms")));
        assert!(parse_duration("s").is_err());
    }
}
