//! Follows one object, by a watch or by reading it now and then.
//!
//! kube's watcher lists first, and a reporter may list nothing. A watch without a `resourceVersion` begins with the
//! object as it is, so it needs neither a list nor a recovery from versions that are gone.

use std::{convert::Infallible, time::Duration};

use futures::TryStreamExt as _;
use http::{Request, header};
use kube::{Client, core::WatchEvent};
use serde::de::DeserializeOwned;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::{
    api_error::ApiError,
    backoff::{Backoff, BackoffRange},
    failure_log::FailureLog,
    identity::Identity,
};

/// The range of a watch's length. Reporters that started together must not renew together.
const SHORTEST: Duration = Duration::from_mins(30);
const LONGEST: Duration = Duration::from_hours(1);

/// The time without an event after which a connection counts as dead. The API server sends a bookmark every minute.
const SILENCE: Duration = Duration::from_mins(3);

/// A watch that ends sooner is a failure. Otherwise a server that closes each watch would be asked without a pause.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// The time between two reads of [`poll`], minus up to a tenth as jitter.
const POLL: Duration = Duration::from_mins(1);

/// The timeout of such a read.
const DEADLINE: Duration = Duration::from_secs(10);

/// The waits after failures.
const BACKOFF: BackoffRange =
    BackoffRange { first: Duration::from_millis(500), longest: Duration::from_mins(1) };

/// The object to follow.
#[derive(Clone, Debug)]
pub struct Target {
    /// The path of its kind, such as `/api/v1/nodes`.
    pub collection: String,
    /// Its name.
    pub name: String,
    /// Kind and name, for the log.
    pub what: String,
    /// The media types to accept.
    pub accept: &'static str,
    /// As whom to watch it.
    pub identity: Identity,
}

/// How a failure is logged.
fn failure_log() -> FailureLog {
    FailureLog::new("an object cannot be followed", "the object can be followed again")
}

/// Follows an object for ever by a watch. `seen` gets it whenever it changes, and at least once for each watch, but not
/// when it is deleted: the last one stays.
pub async fn follow<K>(client: Client, target: Target, mut seen: impl FnMut(K)) -> Infallible
where
    K: Clone + DeserializeOwned,
{
    let (mut backoff, mut log) = (Backoff::default(), failure_log());
    loop {
        let begun = Instant::now();
        let ended = watch(&client, &target, &mut seen, || log.succeeded()).await;
        if begun.elapsed() > TOO_SHORT {
            backoff.succeeded();
            if ended.is_ok() {
                continue;
            }
        }
        let at_once = || ApiError::Transport("it ended the watch at once".to_owned());
        let error = ended.err().unwrap_or_else(at_once);
        let wait = backoff.failed(&error, BACKOFF, fastrand::f64());
        log.failed(&format!("{}: {error}", target.what), wait);
        time::sleep(wait).await;
    }
}

/// Follows an object for ever by reading it every minute, for a ServiceAccount, because RBAC cannot permit it to watch
/// one Node without all others.
pub async fn poll<K>(client: Client, target: Target, mut seen: impl FnMut(K)) -> Infallible
where
    K: DeserializeOwned,
{
    let (mut backoff, mut log) = (Backoff::default(), failure_log());
    loop {
        let wait = match read(&client, &target).await {
            Ok(object) => {
                backoff.succeeded();
                log.succeeded();
                seen(object);
                POLL.mul_f64(1.0 - fastrand::f64() / 10.0)
            }
            Err(error) => {
                let wait = backoff.failed(&error, BACKOFF, fastrand::f64());
                log.failed(&format!("{}: {error}", target.what), wait);
                wait
            }
        };
        time::sleep(wait).await;
    }
}

/// Reads an object from the API server's cache.
async fn read<K: DeserializeOwned>(client: &Client, target: &Target) -> Result<K, ApiError> {
    let Target { collection, name, what: _, accept, identity } = target;
    let request = identity.sign(Request::get(format!("{collection}/{name}?resourceVersion=0")));
    let request = request.header(header::ACCEPT, *accept).body(Vec::new());
    let request = request.map_err(|error| ApiError::transport(&error))?;
    let answer = time::timeout(DEADLINE, client.request::<K>(request)).await;
    Ok(answer.map_err(|_| ApiError::Deadline(DEADLINE))??)
}

/// Watches once, until the API server ends the watch.
async fn watch<K>(
    client: &Client,
    target: &Target,
    mut seen: impl FnMut(K),
    mut works: impl FnMut(),
) -> Result<(), ApiError>
where
    K: Clone + DeserializeOwned,
{
    let Target { collection, name, what, accept, identity } = target;
    let seconds = fastrand::u64(SHORTEST.as_secs()..=LONGEST.as_secs());
    let uri = format!(
        "{collection}?watch=true&allowWatchBookmarks=true&fieldSelector=metadata.name%3D{name}\
         &timeoutSeconds={seconds}"
    );
    let request = identity.sign(Request::get(uri)).header(header::ACCEPT, *accept);
    let request = request.body(Vec::new()).map_err(|error| ApiError::transport(&error))?;
    let silence = || ApiError::Transport(format!("there was no event for {SILENCE:?}"));
    let answer = time::timeout(SILENCE, client.request_events::<K>(request)).await;
    let events = answer.map_err(|_| silence())?.map_err(ApiError::from)?;
    let mut events = std::pin::pin!(events);
    loop {
        let event = time::timeout(SILENCE, events.try_next()).await.map_err(|_| silence())?;
        match event.map_err(ApiError::from)? {
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                works();
                seen(object);
            }
            Some(WatchEvent::Deleted(_)) => {
                warn!("{what} was deleted; the reporter goes on as before");
            }
            Some(WatchEvent::Bookmark(_)) => works(),
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
            None => {
                debug!("the watch of {what} ended and is renewed");
                return Ok(());
            }
        }
    }
}
