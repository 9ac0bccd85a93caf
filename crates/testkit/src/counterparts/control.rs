//! The control port: by which a test, and the program of an exec probe, reach the
//! switches.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, put},
};
use clap::ValueEnum;

use super::mood::{Counterpart, Mood, Switches};

/// The requests that it takes; see the module above.
pub(crate) fn router(switches: Switches, certificate: String) -> Router {
    Router::new()
        .route("/ca", get(|| async { certificate }))
        .route("/{counterpart}", get(tell))
        .route("/{counterpart}/{mood}", put(set))
        .with_state(Arc::new(switches))
}

type Answer = (StatusCode, String);

async fn tell(State(switches): State<Arc<Switches>>, Path(counterpart): Path<String>) -> Answer {
    match Counterpart::from_str(&counterpart, false) {
        Ok(counterpart) => (StatusCode::OK, name(*switches.of(counterpart).borrow())),
        Err(error) => (StatusCode::NOT_FOUND, error),
    }
}

async fn set(
    State(switches): State<Arc<Switches>>,
    Path((counterpart, mood)): Path<(String, String)>,
) -> Answer {
    let parsed = Counterpart::from_str(&counterpart, false)
        .and_then(|counterpart| Ok((counterpart, Mood::from_str(&mood, false)?)));
    match parsed {
        Ok((counterpart, mood)) if switches.set(counterpart, mood) => {
            (StatusCode::OK, String::new())
        }
        Ok((which, _)) => {
            let moods: Vec<String> = which.moods().iter().copied().map(name).collect();
            (StatusCode::NOT_FOUND, format!("{counterpart} can be {}", moods.join(", ")))
        }
        Err(error) => (StatusCode::NOT_FOUND, error),
    }
}

/// The name of a mood, as in a request.
fn name(mood: Mood) -> String {
    mood.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
