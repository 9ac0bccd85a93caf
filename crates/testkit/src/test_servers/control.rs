//! The control port, through which tests set behaviors and the program of an exec probe reads them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, put},
};
use clap::ValueEnum;

use super::behavior::{Behavior, Switches, TestServer};

/// Routes the requests that the parent module lists.
pub(crate) fn router(switches: Switches, certificate: String) -> Router {
    Router::new()
        .route("/ca", get(|| async { certificate }))
        .route("/{test_server}", get(behavior_of))
        .route("/{test_server}/{behavior}", put(set))
        .with_state(Arc::new(switches))
}

type Answer = (StatusCode, String);

async fn behavior_of(
    State(switches): State<Arc<Switches>>,
    Path(test_server): Path<String>,
) -> Answer {
    match TestServer::from_str(&test_server, false) {
        Ok(test_server) => (StatusCode::OK, name(*switches.of(test_server).borrow())),
        Err(error) => (StatusCode::NOT_FOUND, error),
    }
}

async fn set(
    State(switches): State<Arc<Switches>>,
    Path((test_server, behavior)): Path<(String, String)>,
) -> Answer {
    let parsed = TestServer::from_str(&test_server, false)
        .and_then(|test_server| Ok((test_server, Behavior::from_str(&behavior, false)?)));
    match parsed {
        Ok((test_server, behavior)) if switches.set(test_server, behavior) => {
            (StatusCode::OK, String::new())
        }
        Ok((which, _)) => {
            let behaviors: Vec<String> = which.behaviors().iter().copied().map(name).collect();
            (StatusCode::NOT_FOUND, format!("{test_server} can be {}", behaviors.join(", ")))
        }
        Err(error) => (StatusCode::NOT_FOUND, error),
    }
}

/// Returns the name of a behavior, as in a request.
fn name(behavior: Behavior) -> String {
    behavior.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
